// The Chromium that an npm package carries, compressed, with the libraries and fonts that a bare system lacks.
// node chromium.mjs unpacks it; `launched` starts it.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync } from "node:zlib";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const packed = join(here, "node_modules", "@sparticuz", "chromium", "bin"), folder = join(here, "chromium");

/** Put everything into a folder beside this file. */
function unpack() {
  const content = (name) => brotliDecompressSync(readFileSync(join(packed, name)));
  mkdirSync(folder, { recursive: true });
  for (const name of ["al2023.tar.br", "fonts.tar.br"]) {
    execFileSync("tar", ["-x", "-C", folder], { input: content(name) });
  }
  writeFileSync(join(folder, "chromium"), content("chromium.br"), { mode: 0o755 });
}

/** A headless browser that talks to nobody by itself. */
export function launched() {
  return chromium.launch({
    executablePath: join(folder, "chromium"),
    env: { ...process.env, HOME: folder, LD_LIBRARY_PATH: join(folder, "lib"), FONTCONFIG_PATH: folder },
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) unpack();
