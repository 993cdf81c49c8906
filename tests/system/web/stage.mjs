// The web daemon on played replicators, and a real browser: what the page's tests stand on.
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";

export const kPassword = "correct horse battery";
const kHere = dirname(fileURLToPath(import.meta.url));
const kBuild = process.env.ANTIPODE_BUILD_DIR;
const kSkip = 77;

export function skip(reason) {
  console.log(`skipped: ${reason}`);
  process.exit(kSkip);
}

// playwright-core by its lock file, once per build tree.
export async function playwright() {
  const folder = join(kBuild, "playwright");
  const module = join(folder, "node_modules", "playwright-core", "index.mjs");
  if (!existsSync(module)) {
    mkdirSync(folder, { recursive: true });
    for (const name of ["package.json", "package-lock.json"]) cpSync(join(kHere, name), join(folder, name));
    try {
      execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: folder, stdio: "pipe", timeout: 120_000 });
    } catch (error) {
      skip(`npm cannot fetch playwright-core: ${String(error.message).split("\n")[0]}`);
    }
  }
  return await import(pathToFileURL(module));
}

export function chromium() {
  for (const path of ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]) {
    if (existsSync(path)) return path;
  }
  return skip("no chromium here");
}

export class Stage {
  constructor(pairs, { loopbackRead = false } = {}) {
    this.pairs = pairs;
    this.loopbackRead = loopbackRead;
    this.directory = mkdtempSync(join(tmpdir(), "antipode-page-"));
    this.waiting = [];
  }

  path(...parts) {
    return join(this.directory, ...parts);
  }

  program(name) {
    return join(kBuild, "bin", name);
  }

  run(words, input = "") {
    return execFileSync(this.program("antipode-web"), ["--config", this.path("web.toml"), ...words], { input, stdio: ["pipe", "pipe", "inherit"] });
  }

  async start() {
    mkdirSync(this.path("run"));
    mkdirSync(this.path("vms", "fresh"), { recursive: true });
    writeFileSync(this.path("vms", "fresh", "vm.json"), "{}");
    writeFileSync(this.path("web.toml"), `[listen]
address = "127.0.0.1:${this.port ?? 0}"
tls = true
[state]
directory = "${this.path("state")}"
[control]
directories = ["${this.path("run", "a")}", "${this.path("run", "b")}"]
[access]
loopback_read = ${this.loopbackRead}
[site]
vms = "${this.path("vms")}"
credentials = "${this.path("site")}"
replicator = "${this.program("antipode-replicator")}"
[[hooks]]
name = "told"
events = ["went_live"]
command = ["/bin/echo", "told"]
`);
    this.run(["init"]);  // which also makes the certificate
    for (const [name, role] of [["ann", "admin"], ["otto", "operator"], ["dora", "drill_operator"], ["vera", "viewer"]]) {
      this.run(["user", "add", name, "--role", role], kPassword + "\n");
    }
    this.fake = spawn(this.program("fake_replicators"), [this.path("run"), ...this.pairs], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.fake.stdout }).on("line", (line) => this.waiting.shift()?.(line));
    await this.line();
    await this.startWeb();
  }

  async startWeb() {
    this.web = spawn(this.program("antipode-web"), ["--config", this.path("web.toml")], { stdio: ["ignore", "ignore", "pipe"] });
    await new Promise((done, failed) => {
      createInterface({ input: this.web.stderr }).on("line", (line) => {
        const match = /listening on (https:\/\/[^/]+)\//.exec(line);
        if (match) {
          this.base = match[1];
          done();
        }
      });
      this.web.once("exit", (code) => failed(new Error(`antipode-web ended with ${code}`)));
    });
  }

  line() {
    return new Promise((done) => this.waiting.push(done));
  }

  async play(scene) {
    const answer = this.line();
    this.fake.stdin.write(scene + "\n");
    const said = await answer;
    if (said !== "ok") throw new Error(`${scene}: ${said}`);
  }

  // A group of replicated disks that is played; `orders` is what it was told to do.
  async serveDisks(name) {
    this.disks = spawn("python3", [join(kHere, "fake_disks.py"), this.path("run", "a"), name], { stdio: ["pipe", "pipe", "inherit"] });
    this.orders = [];
    await new Promise((ready) => createInterface({ input: this.disks.stdout }).on("line", (line) => {
      if (line === "ready") ready();
      else this.orders.push(line);
    }));
  }

  async stopWeb() {
    const gone = new Promise((done) => this.web.once("exit", done));
    this.web.kill();
    await gone;
  }

  async stop() {
    if (this.web && this.web.exitCode === null) await this.stopWeb();
    this.fake?.stdin.end();
    if (this.disks) {
      const gone = new Promise((done) => this.disks.once("exit", done));
      this.disks.stdin.end();
      await gone;
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

// Two sites with a tiebreaker and certificates of one authority (pairing_test.py --serve), by Debian's Python.
export class PairingWorld {
  static async start() {
    const world = new PairingWorld();
    world.process = spawn("/usr/bin/python3", [join(kHere, "pairing_test.py"), "--serve"], { stdio: ["pipe", "pipe", "inherit"] });
    const line = await new Promise((done, failed) => {
      createInterface({ input: world.process.stdout }).once("line", done);
      world.process.once("exit", (code) => failed(new Error(`pairing_test.py ended with ${code}`)));
    });
    world.bases = JSON.parse(line);
    return world;
  }

  async stop() {
    const gone = new Promise((done) => this.process.once("exit", done));
    this.process.stdin.end();
    await gone;
  }
}
