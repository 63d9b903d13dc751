// Opens the page that examples/browser makes in a headless Chromium: node browser.mjs URL CLASS SCREENSHOT.png
// Prints what it found as JSON: the map of the page's own photo for a class and for the class on top, and all requests.
//
// The browser comes inside an npm package, compressed, with the libraries that a bare system lacks.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { chromium } from "playwright-core";

const [url, index, screenshot] = process.argv.slice(2);
const modules = join(dirname(process.argv[1]), "node_modules");

function unpacked() {
  const packed = join(modules, "@sparticuz", "chromium", "bin"), folder = join(modules, ".chromium");
  if (!existsSync(folder)) {
    const draft = `${folder}.${process.pid}`;
    mkdirSync(draft);
    for (const name of ["al2023.tar", "fonts.tar"]) {
      execFileSync("tar", ["-x", "-C", draft], { input: brotliDecompressSync(readFileSync(join(packed, `${name}.br`))) });
    }
    writeFileSync(join(draft, "chromium"), brotliDecompressSync(readFileSync(join(packed, "chromium.br"))), { mode: 0o755 });
    renameSync(draft, folder);
  }
  return folder;
}

const folder = unpacked();
const browser = await chromium.launch({
  executablePath: join(folder, "chromium"),
  env: { ...process.env, LD_LIBRARY_PATH: join(folder, "lib"), HOME: folder },
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const page = await browser.newPage({ viewport: { width: 760, height: 900 } });
const requests = [], errors = [];
page.on("request", (request) => requests.push(request.url()));
page.on("pageerror", (error) => errors.push(String(error)));
page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
await page.goto(url);
await page.waitForSelector("body[data-class]", { timeout: 50000 }).catch((error) => errors.push(String(error)));
const top = await page.evaluate(() => document.body.dataset.class);
const found = await page.evaluate(async (index) => {
  const { explain, load, pixelsOf } = await import("./explain.js");
  const session = await load("model.onnx");
  const pixels = pixelsOf(session, await createImageBitmap(await (await fetch("photo")).blob()));
  const own = async (k) => {
    const { prediction, map } = await explain(session, pixels, k);
    return { prediction: [...prediction], map: [...map] };
  };
  return { pixels: [...pixels.data], top: await own(-1), chosen: await own(index) };
}, Number(index)).catch((error) => errors.push(String(error)));
// The page's canvas where the map is largest and smallest, as [red, green, blue, alpha].
const [hottest, coldest] = await page.evaluate(({ map, side }) => {
  const canvas = document.getElementById("picture"), context = canvas.getContext("2d");
  const at = (value) => {
    const index = map.indexOf(value), x = ((index % side) + 0.5) / side, y = (Math.floor(index / side) + 0.5) / side;
    return [...context.getImageData(x * canvas.width, y * canvas.height, 1, 1).data];
  };
  return [at(Math.max(...map.slice(0, 60000))), at(Math.min(...map.slice(0, 60000)))];
}, { map: found.top.map, side: Math.sqrt(found.top.map.length) });
await page.screenshot({ path: screenshot });
await page.click("#classes li:nth-child(2) button");
await page.waitForFunction((before) => document.body.dataset.class !== before, top, { timeout: 20000 });
const clicked = await page.evaluate(() => document.body.dataset.class);
const names = await page.evaluate(() => [...document.querySelectorAll("#classes span:first-child")].map((s) => s.textContent));
console.log(JSON.stringify({ ...found, shown: { top, clicked, names, hottest, coldest }, requests, errors }));
await browser.close();
