// A browser on a phone-sized screen, and what must hold on every page.

import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { small } from "./small.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

/**
 * Plays `story(page, look)` in a browser that speaks `language`. `look(name)` takes a picture into the
 * folder `pictures` and checks the page: its language, its width, its controls, and with axe whether
 * everybody can use it, in the light and in the dark. Fails on what the browser complains of, unless it is meant to be
 * `attacked`, and on any request that `inside(url)` does not allow. Without `scripts` there are no pictures, and no axe,
 * which is one.
 */
export async function phone(language, pictures, inside, story, { scripts = true, attacked = false } = {}) {
  const profile = mkdtempSync(join(tmpdir(), "mt-browser-"));
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
    javaScriptEnabled: scripts,
    viewport: { width: 390, height: 844 },
    deviceScaleFactor: 1,
    colorScheme: "light",
    isMobile: true,
    hasTouch: true,
    timeout: 30_000,
  });
  try {
    context.setDefaultTimeout(10_000);
    const page = context.pages()[0] ?? (await context.newPage());
    const faults = listen(page, inside);
    let number = 0;
    await story(page, async (name) => {
      if (!scripts) return fit(page, name, language);
      number += 1;
      const file = `${language}-${String(number).padStart(2, "0")}-${name}.png`;
      writeFileSync(join(pictures, file), small(await page.screenshot({ fullPage: true })));
      await examine(page, name, language);
    });
    check(attacked || faults.length === 0, faults.join("\n"));
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

function listen(page, inside) {
  const faults = [];
  page.on("console", (message) => {
    // A refusal is a page with a status of its own, which Chromium reports.
    const refusal = /^Failed to load resource: .* status of [45]\d\d/.test(message.text());
    if (!refusal && ["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`script: ${error}`));
  page.on("requestfailed", (request) => {
    // A page that is left lets its pictures go; a download is no navigation after all.
    if (request.failure().errorText !== "net::ERR_ABORTED") faults.push(`failed: ${request.url()}`);
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && !inside(url)) faults.push(`outside: ${url}`);
  });
  return faults;
}

async function examine(page, name, language) {
  await fit(page, name, language);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await accessible(page, `${name}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
}

/** The page's language, its width, its controls. */
async function fit(page, name, language) {
  const lang = await page.locator("html").getAttribute("lang");
  check(lang.split("-")[0] === language.split("-")[0], `${name}: lang is ${lang}`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(overflow <= 0, `${name}: ${overflow} pixels too wide`);
  const small = await page
    .locator("button, .button, .lang, label.tick, summary, input:not([type=hidden]):not([type=checkbox])")
    .evaluateAll((all) => all.filter((one) => one.getBoundingClientRect().height < 44).length);
  check(small === 0, `${name}: ${small} controls too small for a thumb`);
  const unnamed = await page
    .locator("input:not([type=hidden])")
    .evaluateAll((all) => all.filter((one) => !one.labels?.length && !one.ariaLabel).length);
  check(unnamed === 0, `${name}: ${unnamed} fields without a label`);
}

/** WCAG 2.2 at levels A and AA, as far as a program can tell: names, order, targets; contrast at AAA, for the sun. */
async function accessible(page, name) {
  await page.evaluate(axe);
  // The staff page renews itself, as staff want it to.
  const rules = { "meta-refresh": { enabled: false }, "color-contrast-enhanced": { enabled: true } };
  const runOnly = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"];
  const { violations } = await page.evaluate((options) => globalThis.axe.run(options), { runOnly, rules });
  const said = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`);
  check(said.length === 0, `${name}: ${said.join("\n")}`);
}

/**
 * What showing a page costs the browser's main thread, from the request until it is painted and can be used, on a
 * processor six times slower that keeps nothing from before: the median and the most of twenty loads, in milliseconds.
 * By the thread's own clock: whatever else runs here is not the page's fault.
 */
export async function cost(page, url) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const spent = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return metrics.find(({ name }) => name === "TaskDuration").value;
  };
  const costs = [];
  // The first one starts a process for another site.
  await page.goto(url);
  for (let round = 0; round < 20; round += 1) {
    const before = await spent();
    await page.goto(url, { waitUntil: "domcontentloaded" });
    await page.evaluate(async () => {
      while (!performance.getEntriesByName("first-contentful-paint").length) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
    });
    costs.push(((await spent()) - before) * 1000 * 6);
  }
  await session.detach();
  costs.sort((one, other) => one - other);
  return { median: Math.round((costs[9] + costs[10]) / 2), most: Math.round(costs[19]) };
}

/** What was sent to the number so far: the codes, oldest first. */
export function messages(spool, number) {
  const names = readdirSync(spool).filter((name) => name.endsWith(".json")).sort();
  const all = names.map((name) => JSON.parse(readFileSync(join(spool, name), "utf8")));
  return all.filter((message) => message.to.endsWith(number)).map((message) => message.code);
}

/** What `ask` answers once it answers; it is asked for so many seconds. */
export async function until(what, ask, seconds = 5) {
  for (let tries = 0; tries < seconds * 20; tries += 1) {
    const answer = await ask();
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited for ${what}`);
}
