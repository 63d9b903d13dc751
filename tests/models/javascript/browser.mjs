// Opens the page that examples/browser makes in a headless Chromium: node browser.mjs URL CLASS SCREENSHOT.png METHOD …
// Prints what it found as JSON: the maps of the page's own photo for the class on top and for a class, what the page
// shows, the map of METHOD.onnx for the class, all requests and all errors.
import { launched } from "./chromium.mjs";

const [url, index, screenshot, ...methods] = process.argv.slice(2);
const browser = await launched();
const page = await browser.newPage({ viewport: { width: 760, height: 900 } });
const requests = [], errors = [];
page.on("request", (request) => requests.push(request.url()));
page.on("pageerror", (error) => errors.push(String(error)));
page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
await page.goto(url);
await page.waitForSelector("body[data-class]", { timeout: 50000 }).catch((error) => errors.push(String(error)));
const top = await page.evaluate(() => document.body.dataset.class);
const found = await page.evaluate(async ({ index, methods }) => {
  const { explain, load, pixelsOf } = await import("./explain.js");
  const session = await load("model.onnx");
  const pixels = pixelsOf(session, await createImageBitmap(await (await fetch("photo")).blob()));
  const own = async (network, k) => {
    const { prediction, map } = await explain(network, pixels, k);
    return { prediction: [...prediction], map: [...map] };
  };
  const others = {};
  for (const method of methods) others[method] = await own(await load(`${method}.onnx`), index);
  return { pixels: [...pixels.data], top: await own(session, -1), chosen: await own(session, index), others };
}, { index: Number(index), methods }).catch((error) => errors.push(String(error)));
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
