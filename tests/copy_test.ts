// SPDX-License-Identifier: 0BSD

/** What people copy: each script alone, offline, with the least permission. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { listening, Script } from "../lib/parts/process.ts";
import { freePort, temporaryFolder } from "./machine.ts";
import { CLIENT, expectUppercase, SERVER } from "./pair.ts";

Deno.test("each alone in an empty folder, with an empty cache, no network and the narrowest permission", async () => {
  await using stack = new AsyncDisposableStack();
  const port = `${freePort()}`;
  /** Copies a script into a folder of its own, and starts the copy there. */
  async function startAlone(script: string): Promise<Script> {
    const { path } = stack.use(await temporaryFolder());
    const copy = join(path, "copy.ts");
    await Deno.copyFile(script, copy);
    return Script.start(copy, {
      cwd: path,
      permissions: ["--no-remote", "--no-npm", `--allow-net=127.0.0.1:${port}`],
      env: { DENO_DIR: join(path, "cache"), HOME: path },
      args: ["--port", port],
    });
  }
  const { script } = stack.use(await listening(await startAlone(SERVER)));
  await expectUppercase(await startAlone(CLIENT), "è\n");
  script.kill();
  assert.equal((await script.exit()).stderr, "");
});
