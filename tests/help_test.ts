// SPDX-License-Identifier: 0BSD

/** What `--help` says, of all programs that people run. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Script } from "../lib/parts/process.ts";
import { ROOT } from "./pair.ts";

const readme = await Deno.readTextFile(join(ROOT, "README.md"));
const [, options] = readme.split("\n## Options and limits\n");

/** Each program, and what README.md says of its options. */
const PROGRAMS: [program: string, told?: string][] = [
  ["server.ts", options!.match(/^\|.*\|$/gm)!.join()],
  ["client.ts", options!.match(/`client\.ts` has [^.]*\./)![0]],
  ["lib/conformance.ts"],
  ["lib/load.ts"],
  ["lib/watch.ts"],
];

for (const [program, told] of PROGRAMS) {
  Deno.test(`${program} --help names the options that exist and no others`, async () => {
    const path = join(ROOT, program);
    await using script = Script.start(path, { args: ["--help"] });
    const { code, stdout, stderr } = await script.ending();
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });

    let source = await Deno.readTextFile(path);
    if (source.includes("...COMMON")) { // then it has these, too
      source += await Deno.readTextFile(join(ROOT, "lib/parts/options.ts"));
    }
    const exist = [...source.matchAll(/^ +"?([a-z-]+)"?: \{ type: "/gm)]
      .map(([, name]) => `--${name}`).sort();
    const named = (text: string) =>
      [...new Set(text.match(/--[a-z][a-z-]+/g))]
        .filter((name) => name !== "--allow-net").sort(); // deno's own
    assert.deepEqual(named(stdout), exist);
    if (told !== undefined) assert.deepEqual(named(told), exist, "README.md");
  });
}
