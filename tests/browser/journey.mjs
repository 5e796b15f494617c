// A guest's way online in a real browser, at phone size.
// node journey.mjs LANGUAGE PHONE SPOOL PICTURES, in the guest's network namespace.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [language, phone, spool, pictures] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "mt-browser-"));
const faults = [];

function check(holds, what) {
  if (!holds) throw new Error(what);
}

/** The code in the newest message to the phone; waits 5 s at most. */
async function code() {
  for (let tries = 0; tries < 100; tries += 1) {
    for (const name of readdirSync(spool).filter((name) => name.endsWith(".json")).sort().reverse()) {
      const message = JSON.parse(readFileSync(join(spool, name), "utf8"));
      if (message.to.endsWith(phone)) return message.code;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("no message came");
}

/** What must hold on every page: its language, its width, its weight, nothing from elsewhere. */
async function look(page, name) {
  await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
  const lang = await page.locator("html").getAttribute("lang");
  check(lang.split("-")[0] === language.split("-")[0], `${name}: lang is ${lang}`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(overflow <= 0, `${name}: ${overflow} pixels too wide`);
  const small = await page
    .locator("button, input:not([type=hidden]):not([type=checkbox])")
    .evaluateAll((all) => all.filter((one) => one.getBoundingClientRect().height < 40).length);
  check(small === 0, `${name}: ${small} controls too small for a thumb`);
  const unnamed = await page
    .locator("input:not([type=hidden])")
    .evaluateAll((all) => all.filter((one) => !one.labels?.length && !one.ariaLabel).length);
  check(unnamed === 0, `${name}: ${unnamed} fields without a label`);
}

const context = await chromium.launchPersistentContext(profile, {
  executablePath: "/usr/bin/chromium",
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
  headless: true,
  locale: language,
  viewport: { width: 360, height: 740 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
  timeout: 30_000,
});
try {
  context.setDefaultTimeout(10_000);
  const page = context.pages()[0] ?? (await context.newPage());
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`script: ${error}`));
  page.on("requestfailed", (request) => faults.push(`failed: ${request.url()}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    const inside = url.protocol === "data:" || url.host === "example.com" || url.port === "2050";
    if (!inside) faults.push(`outside: ${request.url()}`);
  });

  await page.goto("http://example.com/");
  const portal = new URL(page.url());
  check(portal.port === "2050", `not at the portal but at ${page.url()}`);
  await look(page, "1-number");

  await page.fill('input[name="phone"]', phone);
  const terms = page.locator('input[name="terms"]');
  if ((await terms.getAttribute("type")) === "checkbox") await terms.check();
  await page.locator('form[action="/phone"] [type="submit"], form[action="/phone"] button').first().tap();
  await page.waitForSelector('input[name="code"]');
  await look(page, "2-code");

  await page.fill('input[name="code"]', await code());
  await page.locator('form[action="/code"] [type="submit"], form[action="/code"] button').first().tap();
  await page.waitForSelector('form[action="/logout"]');
  check(new URL(page.url()).host === portal.host, `online page at ${page.url()}`);
  await look(page, "3-online");

  await page.goto("http://example.com/");
  check((await page.textContent("body")).includes("This is the internet"), "not online");
  check(faults.length === 0, faults.join("\n"));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
