// Whatever a stranger gets onto a page, nothing of it runs.
// node attack.mjs LANGUAGE PICTURES URL, in a network namespace: a page with another's markup on it as a name, and, if
// it is the portal, every field that a guest may fill.

import { check, phone } from "./phone.mjs";

const [language, pictures, url, password, offline] = process.argv.slice(2);
const inside = () => true;
const MARKUP = `"><script>window.hit=1</script><img src=x onerror=window.hit=1><svg onload=window.hit=1>`;

async function unhurt(page, where) {
  await page.waitForTimeout(50);
  check(!(await page.evaluate(() => window.hit)), `a script ran: ${where}`);
  const strange = await page.evaluate(() => document.querySelectorAll("[onerror], [onload], script + script").length);
  check(strange === 0, `markup on the page: ${where}`);
}

async function fields(page) {
  const evil = encodeURIComponent(MARKUP);
  for (const path of [`v/${evil}`, `f/${evil}`, `?lang=${evil}`, `me?lang=en${evil}`, `terms?${evil}`, `wx/auth?extend=${evil}&openId=${evil}`, `${evil}`]) {
    await page.goto(url + path);
    await unhurt(page, path);
  }
  await page.setExtraHTTPHeaders({ "accept-language": MARKUP, "user-agent": `Android Safari ${MARKUP}` });
  for (const [path, form] of [["phone", { phone: MARKUP, terms: MARKUP }], ["code", { code: MARKUP }], ["voucher", { code: MARKUP, terms: "yes" }], ["device", { session: MARKUP }], ["resend", { code: MARKUP }]]) {
    await page.goto(url);
    await post(page, url + path, form);
    await unhurt(page, path);
  }
}

/** Sends a form from the page itself. */
async function post(page, action, values) {
  await Promise.all([
    page.waitForNavigation(),
    page.evaluate(([action, values]) => {
      const form = Object.assign(document.createElement("form"), { method: "post", action });
      for (const [name, value] of Object.entries(values)) form.append(Object.assign(document.createElement("input"), { name, value }));
      document.body.append(form);
      form.submit();
    }, [action, values]),
  ]);
}

/** As if the pages let markup through: the policy does not let it run, load or lead away. */
async function policy(page) {
  await page.goto(url);
  const refused = await page.evaluate(async () => {
    const refused = new Set();
    addEventListener("securitypolicyviolation", (event) => refused.add(event.effectiveDirective));
    const script = (more) => document.body.append(Object.assign(document.createElement("script"), more));
    script({ textContent: "window.hit=1" });
    script({ src: "/page.js" });
    script({ src: "data:text/javascript,window.hit=1" });
    script({ src: "http://example.com/evil.js" });
    const frame = Object.assign(document.createElement("iframe"), { srcdoc: "<script>parent.hit=1</script>" });
    document.body.insertAdjacentHTML(
      "beforeend",
      `<img src="data:," onerror="window.hit=1"><a id="evil" href="javascript:window.hit=1">x</a><object data="http://example.com/"></object><base href="http://example.com/"><style>body{display:none}</style>`,
    );
    document.body.append(frame);
    document.getElementById("evil").click();
    await fetch("http://example.com/").catch(() => {});
    setTimeout("window.hit=1", 0);
    await new Promise((resolve) => setTimeout(resolve, 500));
    return [...refused].sort();
  });
  await unhurtBy(page);
  for (const directive of ["base-uri", "connect-src", "object-src", "script-src", "script-src-attr", "script-src-elem", "style-src-elem"]) {
    check(refused.includes(directive), `${directive} is not refused, only ${refused}`);
  }
}

async function unhurtBy(page) {
  check(!(await page.evaluate(() => window.hit)), "an injected script ran");
  check((await page.evaluate(() => getComputedStyle(document.body).display)) !== "none", "an injected style holds");
  check((await page.evaluate(() => new URL("x", document.baseURI).host)) === new URL(url).host, "another base");
}

async function story(page) {
  await page.goto(url);
  if (password) {
    await page.fill('input[name="password"]', password);
    await page.locator('form[action="/staff/login"] button').tap();
    await page.waitForSelector("svg.chart");
  }
  check(offline || (await page.textContent("main")).includes("<img"), "the name is not on the page");
  await unhurt(page, "a name");
  if (!password) await fields(page);
  await policy(page);
}

await phone(language, pictures, inside, story, { attacked: true });
