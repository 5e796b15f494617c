// A browser on a phone-sized screen, and what must hold on every page.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

/**
 * Plays `story(page, look)` in a browser that speaks `language`. `look(name)` takes a picture into the
 * folder `pictures` and checks the page: its language, its width, its controls. Fails on what the browser
 * complains of, and on any request that `inside(url)` does not allow.
 */
export async function phone(language, pictures, inside, story) {
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
    viewport: { width: 360, height: 740 },
    deviceScaleFactor: 2,
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
      number += 1;
      const file = `${language}-${String(number).padStart(2, "0")}-${name}.png`;
      await page.screenshot({ path: join(pictures, file), fullPage: true });
      await examine(page, name, language);
    });
    check(faults.length === 0, faults.join("\n"));
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

function listen(page, inside) {
  const faults = [];
  page.on("console", (message) => {
    // A refusal is a page with a status of its own, which Chromium reports.
    const refusal = /^Failed to load resource: .* status of 4\d\d/.test(message.text());
    if (!refusal && ["error", "warning"].includes(message.type())) faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`script: ${error}`));
  page.on("requestfailed", (request) => faults.push(`failed: ${request.url()}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && !inside(url)) faults.push(`outside: ${url}`);
  });
  return faults;
}

async function examine(page, name, language) {
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
