// SPDX-License-Identifier: 0BSD

/** What people copy: each script alone, offline, with the least permission. */

import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { listening, Script } from "../lib/parts/process.ts";
import { talk } from "../lib/parts/tcp.ts";
import { freePort } from "./machine.ts";
import { CLIENT, expectUppercase, ROOT, SERVER, startClient } from "./pair.ts";

Deno.test("copied alone into an empty folder, with an empty cache and no network, each runs", async () => {
  const folder = await Deno.makeTempDir();
  const offline = {
    cwd: folder,
    permissions: ["--no-remote", "--no-npm", "--allow-net"],
    env: { DENO_DIR: join(folder, "cache"), HOME: folder },
  };
  await Deno.copyFile(SERVER, join(folder, "server.ts"));
  await using server = Script.start("server.ts", {
    ...offline,
    args: ["--port", "0"],
  });
  const { port } = await listening(server);
  assert.equal(await talk({ hostname: "127.0.0.1", port }, "è\n"), "È\n");
  await Deno.remove(join(folder, "server.ts"));

  await Deno.copyFile(CLIENT, join(folder, "client.ts"));
  await using client = Script.start("client.ts", {
    ...offline,
    args: ["--port", `${port}`],
  });
  await expectUppercase(client, "è\n");
  server.kill("SIGKILL"); // Windows removes nothing that is in use
  await server.ending();
  await Deno.remove(folder, { recursive: true });
});

Deno.test({
  name: "./server.ts and ./client.ts run",
  ignore: Deno.build.os === "windows",
  async fn() {
    const PATH = `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`;
    const options = { cwd: ROOT, env: { PATH } };
    await using server = Script.command(["./server.ts", "--port=0"], options);
    const { port } = await listening(server);
    const command = ["./client.ts", "--port", `${port}`];
    await using client = Script.command(command, options);
    await expectUppercase(client, "è\n");
  },
});

Deno.test("the narrowest permission is enough for both", async () => {
  const port = freePort();
  const permissions = [`--allow-net=127.0.0.1:${port}`];
  await using server = Script.start(SERVER, {
    permissions,
    args: ["--port", `${port}`],
  });
  const address = await listening(server);
  await using client = startClient(address, { permissions });
  await expectUppercase(client, "è\n");
  server.kill();
  assert.deepEqual((await server.ending()).stderr, "");
});
