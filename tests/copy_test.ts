// SPDX-License-Identifier: 0BSD

/** What people copy: each script alone, offline, with the least permission. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { listening, Script } from "../lib/parts/process.ts";
import { freePort, temporaryFolder } from "./machine.ts";
import { CLIENT, expectUppercase, ROOT, SERVER, startClient } from "./pair.ts";

Deno.test("copied alone into an empty folder, with an empty cache and no network, each runs", async () => {
  for (const alone of [SERVER, CLIENT]) {
    await using folder = await temporaryFolder();
    const copy = join(folder.path, "copy.ts");
    await Deno.copyFile(alone, copy);
    const offline = {
      cwd: folder.path,
      permissions: ["--no-remote", "--no-npm", "--allow-net"],
      env: { DENO_DIR: join(folder.path, "cache"), HOME: folder.path },
    };
    const args = ["--port", "0"];
    await using server = await listening(
      alone === SERVER
        ? Script.start(copy, { ...offline, args })
        : Script.start(SERVER, { args }),
    );
    const port = `${server.address.port}`;
    const client = alone === CLIENT
      ? Script.start(copy, { ...offline, args: ["--port", port] })
      : startClient(server.address);
    await expectUppercase(client, "è\n");
  }
});

Deno.test({
  name: "./server.ts and ./client.ts run",
  ignore: Deno.build.os === "windows",
  async fn() {
    const PATH = `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`;
    const options = { cwd: ROOT, env: { PATH } };
    await using server = await listening(
      Script.command(["./server.ts", "--port=0"], options),
    );
    const port = `${server.address.port}`;
    const client = Script.command(["./client.ts", "--port", port], options);
    await expectUppercase(client, "è\n");
  },
});

Deno.test("the narrowest permission is enough for both", async () => {
  const port = freePort();
  const permissions = [`--allow-net=127.0.0.1:${port}`];
  const args = ["--port", `${port}`];
  await using server = await listening(
    Script.start(SERVER, { permissions, args }),
  );
  await expectUppercase(startClient(server.address, { permissions }), "è\n");
  server.script.kill();
  assert.equal((await server.script.exit()).stderr, "");
});
