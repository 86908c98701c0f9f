// SPDX-License-Identifier: 0BSD

// What lib/conformance.ts prints and how it ends; checks_test.ts holds what the
// checks find.

import assert from "node:assert/strict";
import { join } from "node:path";
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
  const rows = checks.map((check) => ({ level: "required", ...check }));
  assert.deepEqual(
    stdout.trimEnd().split("\n").map((line) => line.split(/ {2,}/)),
    rows.map(({ name, level, promise }) => [name, level, promise]),
  );
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

Deno.test("conformance - a broken promise is shown as README.md shows it", async () => {
  const page = await Deno.readTextFile(join(ROOT, "README.md"));
  const [block] = page.match(/^✗ no-line-end [^]*?(?=^```$)/m)!;
  const fault = "forgets a last line without line end";
  const { stdout } = await check(fault, "--only no-line-end");
  assert(stdout.startsWith(block), stdout);
});

Deno.test("conformance - a broken promise is explained, and a cause told once", async () => {
  const options = "--only uppercase --only crlf";
  const { code, stdout, stderr } = await check("greets each client", options);
  assert.match(stdout, /^✗ uppercase .*\n +sent +"the quick/m);
  assert.match(stdout, /^ +came +"Welcome!/m);
  assert.match(stdout, /^ +cause +text came that nobody asked for/m);
  assert.match(stdout, /^✗ crlf .*cause as for uppercase\)$/m);
  assert.equal(stdout.match(/nobody asked for/g)!.length, 1);
  assert.equal(stderr, "");
  assert.equal(code, 1);
});

Deno.test("conformance - what a dead server was not asked is one line", async () => {
  const { stdout } = await check("never flushes", "--strict");
  assert.equal(stdout.match(/^✗/gm)!.length, 1);
  assert.match(stdout, /^- not asked, no answer any more since uppercase:/m);
  assert(stdout.split("\n").every((line) => line.length < 100));
});

Deno.test("conformance - full text decides the exit code with --strict alone", async () => {
  const fault = "uppercases A to Z alone";
  assert.equal((await check(fault, "--only letters")).code, 0);
  assert.equal((await check(fault, "--only letters --strict")).code, 1);
});

Deno.test("conformance - --json gives the report as JSON", async () => {
  const options = "--json --only empty --only uppercase";
  const { code, stdout } = await check("lower-cases A to Z alone", options);
  const { ok, oneReply, results } = JSON.parse(stdout);
  assert.deepEqual([ok, oneReply, results.length], [false, false, 2]);
  assert.equal(results[0].name, "uppercase");
  assert.equal(results[0].outcome, "broken");
  assert.match(results[0].usualCause, /lower case/);
  assert.equal(results[1].outcome, "kept");
  assert.equal(code, 1);
});

Deno.test("conformance - a server that answers once is told kindly that it is a textbook's", async () => {
  const { stdout } = await check(
    "closes after the first packet",
    "--only uppercase --only conversation",
  );
  assert.match(stdout, /^✓ uppercase .*\n· conversation /);
  assert.match(stdout, /textbook's server/);
  assert.doesNotMatch(stdout, /cause/);
});

Deno.test("conformance - no service, or no permission, is one clear line, exit code 1", async () => {
  const args = ["-p", `${freePort()}`];
  const none = await run(Script.start(PROGRAM, { args }));
  assert.match(
    none.stderr,
    /nothing listens there; start the server first, .*--hostname.* shows what listens/,
  );
  const denied = await run(Script.start(PROGRAM, { args, permissions: [] }));
  assert.match(denied.stderr, /no permission .* program with --allow-net\n/);
  for (const { code, stdout, stderr } of [none, denied]) {
    assert.match(stderr, /^conformance: no service at 127\.0\.0\.1:.*\n$/);
    assert.equal(stdout, "");
    assert.equal(code, 1);
  }
});
