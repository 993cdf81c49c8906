// The page in a real Chromium, on replicators that play their scenes: logging in, a switchover, a
// failover, a lost tiebreaker, a halted site that rejoins, protecting, replicated disks, a drill,
// pairing, accounts; at desktop and phone width, dark and light. Every page is looked at for errors
// in the console, requests to elsewhere, things without a name, weak contrast and sideways
// scrolling. Screenshots go to BUILD/screenshots, to be looked at by eye.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium, kPassword, PairingWorld, playwright, Stage } from "./stage.mjs";
import { unnamed, weakContrast } from "./inspect.mjs";

const kShots = join(process.env.ANTIPODE_BUILD_DIR, "screenshots");
const kDesktop = { width: 1280, height: 900 };
const kPhone = { width: 390, height: 844 };

class Browser {
  constructor(browser, stage) {
    this.browser = browser;
    this.stage = stage;
    this.troubles = [];
    this.alsoAt = [];  // other pages than the stage's that are opened
  }

  async page({ size = kDesktop, scheme = "light" } = {}) {
    const context = await this.browser.newContext({
      viewport: size, colorScheme: scheme, reducedMotion: "reduce", ignoreHTTPSErrors: true,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    page.on("pageerror", (error) => this.troubles.push(`error: ${error.message}`));
    page.on("console", (message) => {
      // Chromium reports refused requests (401, 422...) here; those that matter are asserted on.
      if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) {
        this.troubles.push(`console: ${message.text().slice(0, 300)}`);
      }
    });
    page.on("request", (request) => {
      const known = [this.stage.base, ...this.alsoAt];
      if (!known.some((base) => request.url().startsWith(base + "/"))) this.troubles.push(`request to elsewhere: ${request.url()}`);
    });
    return page;
  }

  calm(where) {
    assert.deepEqual(this.troubles, [], where);
  }
}

async function logIn(page, stage, name, path = "/") {
  await page.goto(stage.base + path);
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(kPassword);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.locator(".live-state.on").waitFor();
}

async function shot(page, name) {
  await page.evaluate(() => window.scrollTo(0, 0));  // else what sticks to the window's top is drawn in the middle
  await page.screenshot({ path: join(kShots, `${name}.png`), fullPage: true });
}

// What must hold of every page, whatever it shows.
async function inspect(page, where) {
  const sideways = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(sideways <= 0, `${where} scrolls sideways by ${sideways} px`);
  assert.deepEqual(await page.evaluate(unnamed), [], `${where}: things without a name`);
  assert.deepEqual(await page.evaluate(weakContrast), [], `${where}: text that is hard to read`);
}

const state = (page) => page.locator(".banner h1");
const site = (page, name) => page.locator(".site-card", { hasText: name });

async function loggingIn(browser, stage) {
  const page = await browser.page();
  await page.goto(stage.base + "/vms/web1");
  await page.getByLabel("Name").fill("ann");
  await page.getByLabel("Password").fill("not the password");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").filter({ hasText: "wrong" }).waitFor();
  await inspect(page, "login");
  await shot(page, "login");
  // The looks themselves must be able to find something.
  await page.evaluate(() => {
    document.querySelector("h1").style.color = "#eee";
    document.querySelector("form button").textContent = "";
  });
  assert.equal((await page.evaluate(weakContrast)).length, 1);
  assert.equal((await page.evaluate(unnamed)).length, 1);
  await page.reload();
  await page.getByLabel("Name").fill("ann");
  await page.getByLabel("Password").fill(kPassword);
  await page.keyboard.press("Enter");
  await state(page).filter({ hasText: "Protected" }).waitFor();  // where it wanted to go
  await page.getByRole("button", { name: "ann" }).click();
  await page.getByRole("menuitem", { name: "Log out" }).click();
  await page.getByLabel("Password").waitFor();
  await page.context().close();
  browser.calm("logging in");
}

async function everyPage(browser, stage) {
  // Pairing itself is tried between two real pages in pairing().
  const pages = { pairing: "/pairing", overview: "/", vm: "/vms/web1", links: "/links", tiebreaker: "/tiebreaker", drills: "/drills",
                  events: "/events", settings: "/settings" };
  for (const [kind, size] of Object.entries({ desktop: kDesktop, phone: kPhone })) {
    for (const scheme of ["light", "dark"]) {
      const page = await browser.page({ size, scheme });
      await logIn(page, stage, "ann");
      for (const [name, path] of Object.entries(pages)) {
        await page.goto(stage.base + path);
        await page.locator(".live-state.on").waitFor({ state: "attached" });
        await page.locator("main .card, main .banner").first().waitFor();
        if (name === "vm") await page.locator(".plot canvas").nth(7).waitFor();
        await inspect(page, `${name}, ${kind}, ${scheme}`);
        await shot(page, `${name}-${kind}-${scheme}`);
      }
      await page.context().close();
    }
  }
  browser.calm("every page");
}

// The charts are drawn and move; the keyboard is enough.
async function watching(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "vera");
  await page.getByRole("heading", { name: "All 3 VMs are protected" }).waitFor();
  await page.locator(".vm-row a").first().focus();
  await page.keyboard.press("Enter");
  await state(page).filter({ hasText: "Protected" }).waitFor();
  const lag = page.locator(".chart").filter({ hasText: "Execution lag" });
  const first = await lag.locator("b").textContent();
  await page.waitForFunction(([text]) => document.querySelector(".chart b").textContent !== text, [first]);
  const painted = await page.locator(".plot canvas").first().evaluate((canvas) => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let i = 3; i < pixels.length; i += 4) count += pixels[i] > 0 ? 1 : 0;
    return count;
  });
  assert.ok(painted > 500, `the chart has ${painted} painted pixels`);
  assert.equal(await page.locator(".action-bar").count(), 0, "a viewer has nothing to press");
  await page.getByRole("button", { name: "1 min" }).press("Enter");
  await page.locator("[aria-pressed=true]", { hasText: "1 min" }).waitFor();
  await page.getByRole("button", { name: /^Theme/ }).click();
  const facts = page.locator(".facts").filter({ hasText: "Log index" });
  await facts.filter({ hasText: "all equal" }).waitFor();
  await stage.play(`checkpoints ${decodeURIComponent(new URL(page.url()).pathname.split("/").pop())}`);
  await facts.filter({ hasText: "set by: pause" }).waitFor();
  await facts.filter({ hasText: "31 pages" }).waitFor();
  assert.ok(!(await facts.textContent()).includes("Digests"), "a backup that does not run has no digests");
  await page.goBack();
  await page.locator(".vm-row").first().waitFor();
  await page.context().close();
  browser.calm("watching");
}

async function switchover(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "otto", "/vms/mail");
  await site(page, "prague").filter({ hasText: "Primary" }).waitFor();
  await page.getByRole("button", { name: "Switch over…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("The VM pauses for about 80 ms").waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Switch over…" }).click();
  const go = dialog.getByRole("button", { name: "Switch over" });
  await dialog.getByLabel("Type mail to confirm").fill("mai");
  assert.ok(await go.isDisabled(), "half a name confirms nothing");
  await dialog.getByLabel("Type mail to confirm").fill("mail");
  await dialog.getByLabel("Note for the audit log").fill("kernel update at prague");
  await inspect(page, "switchover dialog");
  await shot(page, "dialog-switchover");
  await go.click();
  await dialog.waitFor({ state: "detached" });
  await page.locator(".task").filter({ hasText: "Switch over" }).waitFor();
  await site(page, "lisbon").filter({ hasText: "Primary" }).waitFor();
  await page.locator(".task").filter({ hasText: "Succeeded" }).waitFor();
  await shot(page, "after-switchover");
  // What the replicator would refuse cannot be pressed.
  await stage.play("tiebreaker-down mail");
  await page.getByRole("button", { name: "More" }).click();
  await shot(page, "menu");
  await page.keyboard.press("Escape");
  await state(page).filter({ hasText: "Degraded" }).waitFor();
  await page.locator(".alert").filter({ hasText: "tiebreaker does not answer" }).waitFor();
  await page.locator(".tiebreaker-card").filter({ hasText: "Not reachable" }).waitFor();
  await shot(page, "tiebreaker-lost");
  await page.goto(stage.base + "/tiebreaker");
  await page.getByRole("heading", { name: "Tiebreaker not reachable" }).waitFor();
  await stage.play("tiebreaker-up mail");
  await page.getByRole("heading", { name: "Tiebreaker reachable" }).waitFor();
  await page.context().close();
  browser.calm("switchover and tiebreaker");
}

async function failover(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "ann", "/vms/web1");
  await state(page).filter({ hasText: "Protected" }).waitFor();
  await stage.play("kill web1 0");
  await state(page).filter({ hasText: "Solo" }).waitFor();
  await site(page, "lisbon").filter({ hasText: "Solo" }).waitFor();
  await site(page, "prague").filter({ hasText: "Unknown" }).waitFor();
  await page.locator("[aria-live=assertive]").filter({ hasText: "web1: Solo" }).waitFor({ state: "attached" });
  await page.locator(".event").filter({ hasText: "Went live" }).waitFor();
  await inspect(page, "solo");
  await shot(page, "solo");
  await stage.play("sync web1 0");
  await site(page, "prague").filter({ hasText: "Joining" }).waitFor();
  await page.locator("td progress").first().waitFor();
  await shot(page, "joining");
  await state(page).filter({ hasText: "Protected" }).waitFor();
  await page.context().close();
  browser.calm("failover");
}

// By the button, the primary alive: it halts, and is brought back as the backup.
async function failingOver(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "otto", "/vms/mail");
  await state(page).filter({ hasText: "Protected" }).waitFor();
  const [was, becomes] = (await site(page, "prague").textContent()).includes("Primary") ? ["prague", "lisbon"] : ["lisbon", "prague"];
  await page.getByRole("button", { name: "Fail over…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("This site asks the tiebreaker; the primary halts if it wins.").waitFor();
  await dialog.getByText("a switchover is gentler").waitFor();
  await dialog.getByText(`asked of ${becomes}`).waitFor();
  const go = dialog.getByRole("button", { name: "Fail over" });
  assert.ok(await go.isDisabled(), "unconfirmed, there is nothing to press");
  await dialog.getByLabel("Type mail to confirm").fill("mail");
  await inspect(page, "failover dialog");
  await shot(page, "dialog-failover");
  await go.click();
  await dialog.waitFor({ state: "detached" });
  await page.locator(".task").filter({ hasText: "Fail over" }).filter({ hasText: "Succeeded" }).waitFor();
  await site(page, becomes).filter({ hasText: "Solo" }).waitFor();
  await site(page, was).filter({ hasText: "Halted" }).waitFor();
  await shot(page, "failed-over");
  await page.getByRole("button", { name: "Rejoin…" }).click();
  await dialog.getByLabel("Type mail to confirm").fill("mail");
  await dialog.getByRole("button", { name: "Give its copy up and rejoin" }).click();
  await state(page).filter({ hasText: "Protected" }).waitFor();
  await page.context().close();
  browser.calm("failing over");
}

// Given up on purpose, and protected again: the seed's progress is the task's.
async function protecting(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "otto", "/vms/mail");
  await state(page).filter({ hasText: "Protected" }).waitFor();
  const dialog = page.getByRole("dialog");
  await page.getByRole("button", { name: "More" }).click();
  await page.getByRole("menuitem", { name: "Unprotect…" }).click();
  await dialog.getByLabel("Type mail to confirm").fill("mail");
  await dialog.getByRole("button", { name: "Give the backup up" }).click();
  await state(page).filter({ hasText: "Solo" }).waitFor();
  await page.getByRole("button", { name: "Protect…" }).click();
  await dialog.getByText("seeded while the VM runs").waitFor();
  await dialog.getByText("Nothing stands against it.").waitFor();
  await inspect(page, "protect dialog");
  await shot(page, "dialog-protect");
  await dialog.getByRole("button", { name: "Protect" }).click();
  await dialog.waitFor({ state: "detached" });
  await page.locator(".site-card").filter({ hasText: "Joining" }).waitFor();
  await page.locator("td progress").first().waitFor();
  await shot(page, "protecting");
  await page.locator(".task").filter({ hasText: "Protect" }).filter({ hasText: "Succeeded" }).first().waitFor();
  await state(page).filter({ hasText: "Protected" }).waitFor();
  // What this version cannot do is not offered.
  await page.getByRole("button", { name: "More" }).click();
  const offered = await page.locator(".action-bar button").allTextContents();
  for (const name of ["Verify…", "Resynchronise disks…", "Resolve split brain…"]) assert.ok(!offered.includes(name), name);
  await page.context().close();
  browser.calm("protecting");
}

// A split brain of replicated disks: what each choice would lose, and the orders, by who may give
// them.
async function replicatedDisks(browser, stage) {
  await stage.serveDisks("db1");
  const page = await browser.page();
  await logIn(page, stage, "ann", "/disks");
  const group = page.locator(".card").filter({ hasText: "db1" });
  await group.getByText("both copies were written").first().waitFor();
  await group.getByText(/If this site wins: 3 blocks/).waitFor();
  await group.getByText(/If the peer wins: 7 blocks/).waitFor();
  await inspect(page, "disks");
  await shot(page, "disks-split-brain");
  const dialog = page.getByRole("dialog");
  await group.getByRole("button", { name: "Give this site's changes up…" }).click();
  await dialog.getByText("In a split brain: this site's changes are given up").waitFor();
  const go = dialog.getByRole("button", { name: "Give the changes up" });
  assert.ok(await go.isDisabled(), "unconfirmed, there is nothing to press");
  await dialog.getByLabel("Type db1 to confirm").fill("db1");
  await inspect(page, "disks dialog");
  await shot(page, "disks-dialog");
  await go.click();
  await dialog.waitFor({ state: "detached" });
  await group.getByRole("button", { name: "Limit the rate…" }).click();
  await dialog.getByLabel("The most a resync may send, MB/s").fill("2");
  await dialog.getByLabel("The most a resync may send, MB/s").blur();
  await dialog.getByText("Nothing stands against it.").waitFor();
  await dialog.getByRole("button", { name: "Set the limit" }).click();
  await dialog.waitFor({ state: "detached" });
  // Refused: the dialog says why, and stays.
  await group.getByRole("button", { name: "Outdate…" }).click();
  await dialog.getByLabel("Type db1 to confirm").fill("db1");
  await dialog.getByRole("button", { name: "Outdate" }).click();
  await dialog.getByText("This site will not").waitFor();
  await shot(page, "disks-refused");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.deepEqual(stage.orders, ["discard-mine", "rate 2000000"]);
  await page.context().close();
  // An operator settles no split brain, and a viewer orders nothing.
  const otto = await browser.page({ size: kPhone, scheme: "dark" });
  await logIn(otto, stage, "otto", "/disks");
  await otto.getByRole("button", { name: "Verify…" }).waitFor();
  assert.equal(await otto.getByRole("button", { name: "Give this site's changes up…" }).count(), 0);
  await inspect(otto, "disks, phone, dark");
  await otto.context().close();
  const vera = await browser.page();
  await logIn(vera, stage, "vera", "/disks");
  await vera.locator(".card").filter({ hasText: "db1" }).waitFor();
  assert.equal(await vera.getByRole("group", { name: "Orders to db1" }).count(), 0);
  await vera.context().close();
  browser.calm("replicated disks");
}

async function haltedAndRejoined(browser, stage) {
  const page = await browser.page({ size: kPhone, scheme: "dark" });
  await logIn(page, stage, "ann", "/vms/db-north");
  await state(page).filter({ hasText: "Protected" }).waitFor();
  await stage.play("cut db-north");
  await site(page, "lisbon").filter({ hasText: "Halted" }).waitFor();
  await page.locator(".link-bar").filter({ hasText: "Link down" }).waitFor();
  await shot(page, "halted-phone-dark");
  await stage.play("heal db-north");
  await page.getByRole("button", { name: "Rejoin…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Type db-north to confirm").fill("db-north");
  await inspect(page, "rejoin dialog, phone, dark");
  await shot(page, "dialog-rejoin-phone-dark");
  await dialog.getByRole("button", { name: "Give its copy up and rejoin" }).click();
  await site(page, "lisbon").filter({ hasText: "Joining" }).waitFor();
  await state(page).filter({ hasText: "Protected" }).waitFor();
  await page.context().close();
  browser.calm("halted and rejoined");
}

async function drills(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "dora", "/vms/mail");
  await page.locator(".action-bar").waitFor();
  const names = await page.locator(".action-bar button").allTextContents();
  assert.deepEqual(names, ["Drill…", "Inject a fault…"], "a drill operator drills and does nothing else");
  await page.goto(stage.base + "/drills");
  // By name: the text of its label holds the names of all VMs, once they are there.
  await page.locator('select[name="pair"]').selectOption("mail");
  await page.getByLabel("It has passed when").selectOption("console");
  await page.getByLabel("Type on its console").fill("uname");
  await page.getByLabel("and this appears").fill("ready");
  await shot(page, "drill-form");
  await page.getByRole("button", { name: "Start the drill" }).click();
  const row = page.locator(".task").filter({ hasText: "mail" });
  await row.filter({ hasText: "Passed" }).waitFor();
  await shot(page, "drill-done");
  // Its report, as a page of paper.
  const [report] = await Promise.all([page.context().waitForEvent("page"), row.getByRole("link", { name: "Report" }).click()]);
  await report.getByRole("heading", { name: "Drill of mail" }).waitFor();
  await report.getByText("a".repeat(64)).waitFor();
  assert.equal(await report.locator(".verdict").textContent(), "passed");
  await shot(report, "drill-report");
  await report.emulateMedia({ media: "print" });
  await shot(report, "drill-report-print");
  await report.close();
  // What can end in a failover wants the name typed, and a switchover a right that Dora has not.
  // The VM stays chosen.
  await page.locator('select[name="kind"]').selectOption("fault");
  await page.getByRole("button", { name: "Start the drill" }).click();
  const confirm = page.locator("form").filter({ hasText: "Type mail to confirm" });
  await confirm.getByLabel("Type mail to confirm").fill("mail");
  await shot(page, "drill-fault-confirm");
  await confirm.getByRole("button", { name: "Start the drill" }).click();
  await page.locator(".task").filter({ hasText: "Rehearsed fault" }).filter({ hasText: "Passed" }).waitFor();
  await page.locator('select[name="kind"]').selectOption("switchover");
  await page.getByRole("button", { name: "Start the drill" }).click();
  await page.getByRole("alert").filter({ hasText: "needs the right 'operate'" }).waitFor();
  await page.locator('select[name="kind"]').selectOption("isolated");
  await page.getByLabel("and this appears").fill("ready");
  await page.getByLabel("Every week").check();
  await page.getByRole("button", { name: "Keep the schedule" }).click();
  await page.getByText("Isolated copy, Monday at 03:00").waitFor();
  await shot(page, "drill-schedule");
  await page.goto(stage.base + "/");
  await page.locator(".vm-row").filter({ hasText: "mail" }).getByText("Last drill").waitFor();
  await page.context().close();
  browser.calm("drills");
}

async function forcing(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "ann", "/vms/mail");
  await state(page).filter({ hasText: "Protected" }).waitFor();
  await stage.play("freeze mail 0");
  await state(page).filter({ hasText: "Frozen" }).waitFor();
  await shot(page, "frozen");
  await page.getByRole("button", { name: "Force…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("confirm that the other site is down").waitFor();
  assert.equal(await dialog.getByLabel("Type mail to confirm").count(), 0, "unsworn, there is nothing to confirm");
  await dialog.getByRole("checkbox").check();
  await dialog.getByLabel("Type mail to confirm").fill("mail");
  await inspect(page, "force dialog");
  await shot(page, "dialog-force");
  await dialog.getByRole("button", { name: "Force" }).click();
  await state(page).filter({ hasText: "Solo" }).waitFor();
  await page.context().close();
  browser.calm("forcing");
}

async function administering(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "ann", "/settings");
  const users = page.locator(".card").filter({ hasText: "Users" });
  await users.getByLabel("Name", { exact: true }).fill("newcomer");
  await users.getByLabel("Password").fill("short");
  await users.getByLabel("Password").fill("a long enough one");
  await users.getByRole("button", { name: "Add user" }).click();
  await users.locator("tr").filter({ hasText: "newcomer" }).waitFor();
  await users.getByLabel("Role of newcomer").selectOption("operator");
  await page.getByRole("status").filter({ hasText: "newcomer is operator now" }).waitFor();
  const tokens = page.locator(".card").filter({ hasText: "Tokens for programs" });
  await tokens.getByLabel("Name", { exact: true }).fill("prometheus");
  await tokens.getByRole("button", { name: "Make token" }).click();
  await page.locator(".secret").filter({ hasText: "antipode_" }).waitFor();
  await page.locator(".audit tr").filter({ hasText: "token.add" }).first().waitFor();
  // The last administrator cannot be locked out, and the page says why.
  await users.getByLabel("Role of ann").selectOption("viewer");
  await page.getByRole("alert").filter({ hasText: "last administrator" }).waitFor();
  await inspect(page, "settings");
  await shot(page, "settings-used");
  await page.goto(stage.base + "/events");
  const hooks = page.locator(".card").filter({ hasText: "Hooks" });
  // It was told of the failover two scenes ago; a try is told apart from that.
  await hooks.getByText(/exit code 0.*went_live of/).waitFor();
  await hooks.getByRole("button", { name: "Try" }).click();
  await hooks.getByText(/exit code 0.*test of/).waitFor();
  await shot(page, "events-hooks");
  await page.context().close();
  browser.calm("administering");
}

// The server goes: the page says that what it shows is old, and comes back by itself.
async function losingTheServer(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "vera", "/vms/web1");
  await state(page).waitFor();
  await stage.stopWeb();
  await page.getByRole("alert").filter({ hasText: "connection to this page's server is lost" }).waitFor();
  await shot(page, "server-lost");
  await stage.startWeb();
  await page.locator(".live-state.on").waitFor();
  await state(page).filter({ hasText: "Protected" }).waitFor();
  await page.context().close();
  browser.calm("losing the server");
}

// A code is made at one page and entered at another, in two browser windows; a failure says why.
async function pairing(browser, stage) {
  const page = await browser.page();
  await logIn(page, stage, "ann", "/pairing");
  const offer = page.locator(".card").filter({ hasText: "Offer a VM" });
  await offer.getByLabel("This site's name").fill("prague");
  await offer.getByLabel("Its address on the line").fill("127.0.0.1");
  await offer.getByLabel("Tiebreaker").fill("127.0.0.1:9");
  await offer.getByRole("button", { name: "Make a code" }).click();
  const code = await offer.locator("pre.code").textContent();
  assert.match(code, /^([0-9A-Z]{5}-)+[0-9A-Z]{1,5}$/);
  await inspect(page, "pairing, offered");
  await shot(page, "pairing-code");
  const other = await browser.page({ size: kPhone, scheme: "dark" });
  const second = new Stage(["other"]);
  await second.start();
  try {
    browser.alsoAt = [second.base];
    await logIn(other, second, "ann", "/pairing");
    const enter = other.locator(".card").filter({ hasText: "Enter a code" });
    await enter.getByLabel("This site's name").fill("lisbon");
    await enter.getByLabel("Its address on the line").fill("127.0.0.1");
    await enter.getByLabel("The code").fill(code.slice(0, -3));
    await enter.getByRole("button", { name: "Pair", exact: true }).click();
    await other.getByRole("alert").filter({ hasText: "not complete" }).waitFor();
    await enter.getByLabel("The code").fill(code);
    await enter.getByRole("button", { name: "Pair", exact: true }).click();
    // This site has no certificate for the tiebreaker: it says so, after the other site has been
    // greeted.
    await other.locator(".task").filter({ hasText: "prague offers 'fresh'" }).filter({ hasText: "site.pem" }).waitFor();
    await inspect(other, "pairing, failed, phone, dark");
    await shot(other, "pairing-failed-phone-dark");
    await page.locator(".task").filter({ hasText: "lisbon at 127.0.0.1 knows the code" }).waitFor();
    await page.getByRole("button", { name: "Withdraw the code" }).click();
    await page.locator("pre.code").waitFor({ state: "detached" });
  } finally {
    await other.context().close();  // first: it asks its server for as long as it is open
    await second.stop();
    browser.alsoAt = [];
  }
  await page.context().close();
  browser.calm("pairing");
}

// With a real authority, a real tiebreaker and real keys: both pages tell every step, and how to
// start the VM.
async function pairingForReal(browser) {
  const world = await PairingWorld.start();
  try {
    browser.alsoAt = Object.values(world.bases);
    const page = await browser.page();
    await logIn(page, { base: world.bases.prague }, "ann", "/pairing");
    const offer = page.locator(".card").filter({ hasText: "Offer a VM" });
    await offer.locator('select[name="pair"]').selectOption("web1");
    await offer.getByRole("button", { name: "Make a code" }).click();
    const code = await offer.locator("pre.code").textContent();
    const other = await browser.page({ size: kPhone });
    await logIn(other, { base: world.bases.lisbon }, "ann", "/pairing");
    const enter = other.locator(".card").filter({ hasText: "Enter a code" });
    await enter.getByLabel("The code").fill(code);
    await enter.getByRole("button", { name: "Pair", exact: true }).click();
    for (const [each, pair, size] of [[page, "prague with lisbon", "desktop"], [other, "lisbon with prague", "phone"]]) {
      const row = each.locator(".task").filter({ hasText: `Paired, ${pair}` });
      await row.getByText(/systemctl enable --now antipode-replicator@web1/).waitFor();
      await row.getByText(/makes? the pair's record at the tiebreaker/).waitFor();
      await row.getByRole("button", { name: "Unpair…" }).waitFor();
      await inspect(each, `paired, ${size}`);
      await shot(each, `paired-${size}`);
    }
    await page.locator("pre.code").waitFor({ state: "detached" });  // it is used
    for (const each of [page, other]) await each.context().close();
  } finally {
    await world.stop();
    browser.alsoAt = [];
  }
  browser.calm("pairing for real");
}

async function main() {
  const { chromium: engine } = await playwright();
  const executablePath = chromium();
  mkdirSync(kShots, { recursive: true });
  const stage = new Stage(["web1", "db-north", "mail"]);
  stage.port = 20000 + (process.pid % 20000);  // the same one after its restart
  await stage.start();
  const started = await engine.launch({ executablePath, args: ["--no-sandbox"] });
  try {
    const browser = new Browser(started, stage);
    for (const scene of [loggingIn, watching, everyPage, switchover, failover, haltedAndRejoined, drills, administering,
                         losingTheServer, failingOver, protecting, replicatedDisks, forcing, pairing, pairingForReal]) {
      const begin = Date.now();
      await scene(browser, stage);
      console.log(`${scene.name}: ok, ${((Date.now() - begin) / 1000).toFixed(1)} s`);
    }
  } finally {
    await started.close();
    await stage.stop();
  }
}

await main();
