// SPDX-License-Identifier: 0BSD

/** Wrong usage and `--help` of any program, and what compare.ts says while it runs. */

import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { COMMON } from "../lib/parts/command_line.ts";
import { run, Script } from "../lib/parts/process.ts";
import { has, TERMINAL } from "./machine.ts";
import { CLIENT, expectExit, ROOT, SERVER } from "./pair.ts";

const [CONFORMANCE, LOAD, WATCH, COMPARE, SOAK] = [
  ...["lib/conformance.ts", "lib/load.ts", "lib/watch.ts"],
  ...["tests/compare.ts", "tests/soak.ts"],
].map((path) => join(ROOT, path));

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
  [WATCH, "--to=::1", 'from 1 to 65535, not "::1"'],
  [WATCH, "--to=a:b", 'from 1 to 65535, not "b"'],
  [COMPARE, "--programs=server.ts,nod", '"nod"'],
  [COMPARE, "--load=bulky", '"bulky"'],
  [COMPARE, "--rounds=0", 'from 1 to 1000, not "0"'],
  [SOAK, "--minutes=1e3", 'a number above 0, not "1e3"'],
  [SOAK, "30", "'30'"],
];

/** Runs a program; compare.ts and soak.ts need more than the network. */
function type(program: string, args: string[], wrapper?: string[]) {
  const permissions = ["--allow-all"];
  return run(Script.start(program, { args, permissions, wrapper }));
}

Deno.test("usage - a mistake is one line that names it, exit code 2", async (t) => {
  for (const [program, typed, says] of MISTAKES) {
    await t.step(`${basename(program)} ${typed}`, async () => {
      const exit = await type(program, [typed]);
      const stderr = /^[a-z]+: [^\n]+ \(--help shows the options\)\n$/;
      expectExit(exit, { code: 2, stdout: "", stderr });
      assert.ok(exit.stderr.includes(says), exit.stderr);
    });
  }
});

Deno.test("usage - --help goes to standard output, with all options and no other, exit code 0", async (t) => {
  const all = [SERVER, CLIENT, CONFORMANCE, LOAD, WATCH, COMPARE, SOAK];
  for (const program of all) {
    await t.step(basename(program), async () => {
      const exit = await type(program, ["--help"]);
      expectExit(exit);
      assert.match(exit.stdout, /deno (run --allow-net \S+\.ts|task [a-z]+)/);
      // An option is a line of the help, and a line that parseArgs() is given.
      const shown = exit.stdout.matchAll(/^ +(?:-[a-z], +)?--([a-z-]+)/gm);
      const source = await Deno.readTextFile(program);
      const read = source.matchAll(/^ +"?([a-z-]+)"?: \{\s*type: "/gm);
      const common = source.includes("...COMMON") ? Object.keys(COMMON) : [];
      const names = [...read].map(([, name]) => name!);
      assert.deepEqual(
        new Set([...shown].map(([, name]) => name!)),
        new Set([...common, ...names]),
      );
    });
  }
});

Deno.test(
  "compare - says what runs and how much is left, on a terminal alone",
  {
    ignore: !has("nc") || !has("python3"),
  },
  async () => {
    // The rows that this leaves for servers have no program: no table is printed.
    const args = ["--load=first", "--programs=nc", "--rounds=1"];
    const piped = await type(COMPARE, args);
    expectExit(piped);
    assert.match(piped.stdout, /^\| median \| nc \|\n/);
    const shown = await type(COMPARE, args, TERMINAL);
    assert.match(shown.stdout, /first reply: ms, nc; measurements left: 1\r/);
  },
);
