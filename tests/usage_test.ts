// SPDX-License-Identifier: 0BSD

/** Wrong usage of any program: one line that names it, and exit code 2. */

import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { run, Script } from "../lib/parts/process.ts";
import { CLIENT, expectExit, ROOT, SERVER } from "./pair.ts";

const [CONFORMANCE, LOAD, WATCH] = ["conformance", "load", "watch"]
  .map((name) => join(ROOT, "lib", `${name}.ts`));

/** What is typed, and what the line says of it. */
const MISTAKES: [program: string, typed: string, says: string][] = [
  ...["1e3", "0x50", "", "-1", "65536", "6789.0"].flatMap(
    (value): typeof MISTAKES => [
      [SERVER, `--port=${value}`, `number from 0 to 65535, not "${value}"`],
      [CLIENT, `--port=${value}`, `number from 1 to 65535, not "${value}"`],
    ],
  ),
  [SERVER, "--max-connections=0", 'from 1 to 1000000, not "0"'],
  [SERVER, "--idle-timeout=1.5", 'from 0 to 1000000, not "1.5"'],
  [SERVER, "--hostname=", "--hostname must not be empty"],
  [CLIENT, "--hostname=", "--hostname must not be empty"],
  [CLIENT, "6789", "'6789'"],
  [CLIENT, "-p0", 'from 1 to 65535, not "0"'],
  [CONFORMANCE, "--timeout=0", 'from 1 to 3600, not "0"'],
  [CONFORMANCE, "-p0", 'number from 1 to 65535, not "0"'],
  [CONFORMANCE, "--only=nothing", '"nothing" is no check'],
  [CONFORMANCE, "--nonsense", "'--nonsense'"],
  [LOAD, "--clients=1,,2", 'from 1 to 1000000, not ""'],
  [LOAD, "--hostname=", "--hostname must not be empty"],
  [LOAD, "--text=klingon", 'not "klingon"'],
  [WATCH, "--port=65536", 'from 0 to 65535, not "65536"'],
  [WATCH, "--to=7000", "127.0.0.1:7000 is where watch itself listens"],
  [WATCH, "--to=localhost:7000", "is where watch itself listens"],
  [WATCH, "--to=[::ffff:127.0.0.1]:7000", "is where watch itself listens"],
  [WATCH, "--to=a:b", 'from 1 to 65535, not "b"'],
];

Deno.test("usage - a mistake is one line that names it, exit code 2", async (t) => {
  for (const [program, typed, says] of MISTAKES) {
    await t.step(`${basename(program)} ${typed}`, async () => {
      const exit = await run(Script.start(program, { args: [typed] }));
      const stderr = /^[a-z]+: [^\n]+ \(--help shows the options\)\n$/;
      expectExit(exit, { code: 2, stdout: "", stderr });
      assert.ok(exit.stderr.includes(says), exit.stderr);
    });
  }
});

Deno.test("usage - --help goes to standard output, exit code 0", async (t) => {
  for (const program of [SERVER, CLIENT, CONFORMANCE, LOAD, WATCH]) {
    await t.step(basename(program), async () => {
      const exit = await run(Script.start(program, { args: ["--help"] }));
      expectExit(exit);
      assert.match(exit.stdout, /deno run --allow-net \S+\.ts/);
    });
  }
});
