// Opens reports in a headless Chromium and uses them: node browser.mjs CHROMIUM.mjs FOLDER PAGE.html …
// Leaves pictures in the folder, and prints what it found as JSON, by the name of the page.
import { basename } from "node:path";
import { pathToFileURL } from "node:url";

const [launcher, folder, ...files] = process.argv.slice(2);
const { launched } = await import(pathToFileURL(launcher));
const browser = await launched();
const found = {};

async function opened(file, options) {
  const page = await browser.newPage(options);
  const requests = [], errors = [];
  page.on("request", (request) => request.url().startsWith("data:") || requests.push(request.url()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => errors.push(message.text()));
  page.on("dialog", (dialog) => (errors.push(`dialog ${dialog.message()}`), dialog.dismiss()));
  await page.goto(pathToFileURL(file).href);
  await page.waitForSelector("body[data-ready]", { timeout: 10000 }).catch((error) => errors.push(String(error)));
  return { page, requests, errors };
}

for (const file of files) {
  const { page, requests, errors } = await opened(file, { viewport: { width: 1000, height: 900 } });
  const name = basename(file, ".html"), first = page.locator("#input-1"), slider = first.locator("input[type=range]");
  const shot = (what) => first.locator("figure .stage").screenshot({ path: `${folder}/${name}-${what}.png` });
  const chosen = (group) => page.evaluate((g) => Number(document.querySelector(`input[name="input-1-${g}"]:checked`).value), group);
  await slider.focus();
  await page.keyboard.press("Home");
  await shot("input");
  await page.keyboard.press("End");
  await shot("map");
  const alt = await first.locator("figure .map").getAttribute("alt");
  await first.locator("label.class").last().click();
  await shot("class");
  await first.locator(".method input").first().focus();
  await page.keyboard.press("ArrowRight");
  await shot("method");
  await page.selectOption("#colours", "gray");
  await shot("colours");
  await page.fill("#filter", "conv");
  found[name] = {
    requests, errors, alt,
    chosen: { class: await chosen("class"), method: await chosen("method") },
    layers: await page.evaluate(() => [...document.querySelectorAll("#layer-table tbody tr:not([hidden]) th")].map((cell) => cell.textContent)),
    count: await page.locator("#count").textContent(),
    title: await page.title(),
    headings: await page.locator("h3").allTextContents(),
    classes: await first.locator(".class span:nth-last-of-type(2)").allTextContents(),
    foreign: await page.evaluate(() => document.querySelectorAll("b, img:not(.stage img), script:not([id]):not(:last-of-type)").length),
    light: await page.evaluate(() => getComputedStyle(document.body).backgroundColor),
  };
  await page.emulateMedia({ colorScheme: "dark" });
  found[name].dark = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.close();
  const phone = await opened(file, { viewport: { width: 360, height: 740 } });
  found[name].phone = await phone.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  found[name].errors.push(...phone.errors);
  await phone.page.close();
}
console.log(JSON.stringify(found));
await browser.close();
