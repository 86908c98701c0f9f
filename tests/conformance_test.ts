// SPDX-License-Identifier: 0BSD

// What lib/conformance.ts prints and how it ends; checks_test.ts holds what the
// checks find.

import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { checks } from "../lib/conformance.ts";
import { type Exit, listening, run, Script } from "../lib/parts/process.ts";
import { freePort, temporaryFolder } from "./machine.ts";
import { ROOT } from "./pair.ts";

const PROGRAM = join(ROOT, "lib/conformance.ts");
const WRONG_SERVER = join(ROOT, "tests/wrong/server.ts");

/** Runs the program, or another one, against a wrong server. */
async function check(
  fault: string,
  options: string,
  program = PROGRAM,
): Promise<Exit> {
  await using server = await listening(
    Script.start(WRONG_SERVER, { args: [fault] }),
  );
  const args = [`--port=${server.address.port}`, ...options.split(" ")];
  return await run(Script.start(program, { args }));
}

Deno.test("conformance - --list shows every check, its level and its promise", async () => {
  const { code, stdout } = await run(
    Script.start(PROGRAM, { args: ["--list"] }),
  );
  const shown = stdout.trimEnd().split("\n").map((line) => line.split(/ {2,}/));
  const all = checks.map((
    { name, level = "required", promise },
  ) => [name, level, promise]);
  assert.deepEqual(shown, all);
  assert.equal(code, 0);
});

Deno.test("conformance - a teacher's own check in lib/README.md runs", async () => {
  const page = await Deno.readTextFile(join(ROOT, "lib/README.md"));
  const [, block] = page.match(/^```ts ignore\n(.*?)^```$/ms)!;
  await using folder = await temporaryFolder();
  const file = join(folder.path, "my_checks.ts");
  const lib = new URL("../lib/", import.meta.url).href;
  await Deno.writeTextFile(file, block!.replace("./lib/", lib));
  const fault = "uppercases A to Z alone";
  const { code, stdout } = await check(fault, "--only italian", file);
  assert(page.includes(stdout), stdout); // the page shows the same output
  assert.equal(code, 1);
});

Deno.test("conformance - a broken promise is shown as the pages show it", async () => {
  const faults = {
    "no-line-end": "forgets a last line without line end",
    "several-lines": "takes an empty line for the end",
  };
  const pages = await Deno.readTextFile(join(ROOT, "README.md")) +
    await Deno.readTextFile(join(ROOT, "lib/README.md"));
  for (const [name, fault] of Object.entries(faults)) {
    const { stdout } = await check(fault, `--only ${name}`);
    const [shown] = stdout.split("\n\n"); // the summary follows
    assert(pages.includes(shown), stdout);
  }
});

Deno.test("conformance - a cause is told once, and decides the exit code", async () => {
  const options = "--only uppercase --only untouched";
  const { code, stdout } = await check("greets each client", options);
  assert.match(stdout, /^✗ untouched .*cause as for uppercase\)$/m);
  assert.equal(stdout.match(/nobody asked for/g)!.length, 1);
  assert.equal(code, 1);
});

Deno.test("conformance - what a dead server was not asked is one line", async () => {
  const { stdout } = await check("never flushes", "--strict --timeout 1");
  assert.equal(stdout.match(/^✗/gm)!.length, 1);
  assert.match(stdout, /^- not asked, no answer since uppercase /m);
});

Deno.test("conformance - a slow server is not blamed, nor a promise passed that was not asked: exit code 3", async () => {
  const { code, stdout } = await check(
    "answers after 4 s",
    "--timeout 2 --only interactive",
  );
  assert.match(stdout, /^- no time, slower than --timeout 2: .* interactive$/m);
  assert.match(stdout, /required: 0 of 1\./);
  assert.equal(code, 3);
  const { code: same, stdout: json } = await check(
    "answers after 4 s",
    "--timeout 2 --json",
  );
  const { ok, results } = JSON.parse(json);
  assert.equal(ok, null);
  assert.equal(results[0].outcome, "no time");
  assert.equal(same, 3);
});

Deno.test("conformance - a reset that this release of Deno cannot send is not asked for: exit code 3", async () => {
  await using folder = await temporaryFolder();
  const older = join(folder.path, "older.ts");
  await Deno.writeTextFile(
    older,
    `import { Socket } from "node:net";
    delete Socket.prototype.resetAndDestroy;
    const { main } = await import(${JSON.stringify(pathToFileURL(PROGRAM))});
    await main();`,
  );
  const { code, stdout } = await check("none", "--only reset", older);
  assert.match(stdout, /^- not asked, needs Deno 2\.7\.14: reset$/m);
  assert.equal(code, 3);
});

Deno.test("conformance - full text decides the exit code with --strict alone", async () => {
  const fault = "uppercases A to Z alone";
  assert.equal((await check(fault, "--only letters")).code, 0);
  assert.equal((await check(fault, "--only letters --strict")).code, 1);
});

Deno.test("conformance - --json gives the report as lib/README.md shows it", async () => {
  const page = await Deno.readTextFile(join(ROOT, "lib/README.md"));
  const [json] = page.match(/^\{\n.*?^\}\n/ms)!;
  const { code, stdout } = await check("none", "--json --only conversation");
  assert.equal(stdout, json);
  assert.equal(code, 0);
});

Deno.test("conformance - a server that answers once is told that it is a textbook's", async () => {
  const options = "--only uppercase --only conversation";
  const { stdout } = await check("closes after the first packet", options);
  assert.match(stdout, /^✓ uppercase .*\n· conversation /);
  assert.match(stdout, /textbook's server/);
  assert.doesNotMatch(stdout, /cause/);
});

Deno.test("conformance - no service, or no permission, is one clear line, exit code 1", async () => {
  const args = [`--port=${freePort()}`];
  const none = await run(Script.start(PROGRAM, { args }));
  assert.match(none.stderr, /nothing listens there; .*--hostname.* shows what/);
  const denied = await run(Script.start(PROGRAM, { args, permissions: [] }));
  assert.match(denied.stderr, /no permission .* program with --allow-net\n/);
  for (const { code, stdout, stderr } of [none, denied]) {
    assert.match(stderr, /^conformance: no service at 127\.0\.0\.1:.*\n$/);
    assert.equal(stdout, "");
    assert.equal(code, 1);
  }
});
