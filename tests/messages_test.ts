// SPDX-License-Identifier: 0BSD

/** What the scripts say when something is wrong. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { run, Script } from "../lib/parts/process.ts";
import { freePort, has, TERMINAL } from "./machine.ts";
import {
  changed,
  CLIENT,
  expectExit,
  ROOT,
  SERVER,
  startServer,
} from "./pair.ts";
import { resetHere, serveHere, type ServerHere } from "./sockets.ts";

/** The server that a command meets, by what the page says has happened. */
const SERVERS: Record<string, () => ServerHere | Promise<ServerHere>> = {
  "another program has the port": () => startServer(),
  "the input is a folder": () => startServer(),
  "the disk is full": () => startServer(),
  "it gets no answer": fullQueue,
  "the server closes before the end of input": () =>
    serveHere((socket) => socket.read(new Uint8Array(4096))),
  "the connection breaks": () => resetHere("data"),
};

/** The system drops what a client sends to connect if the server's queue is full. */
async function fullQueue(): Promise<ServerHere> {
  const stack = new AsyncDisposableStack();
  const [hostname, tcpBacklog] = ["127.0.0.1", 1];
  const queue = stack.use(Deno.listen({ hostname, port: 0, tcpBacklog }));
  const address = { hostname, port: queue.addr.port };
  stack.use(await Deno.connect(address));
  stack.use(await Deno.connect(address));
  return Object.assign(stack, { address });
}

/** What the page shows: what has happened, a command, and what it says. */
const SHOWN =
  /^# (?<happened>.*): exit code (?<code>\d+)\n\$ deno run (?<permission>--allow-net )?(?<script>\S+)(?<args>[^<>\n]*)(?<redirection>.*)\n(?<says>[^]*)$/;

Deno.test("messages - they are as tests/README.md shows them", {
  // The system's words in some of them are those of Linux.
  ignore: Deno.build.os !== "linux" || !has("bash"),
}, async (t) => {
  const page = await Deno.readTextFile(join(ROOT, "tests", "README.md"));
  const [, fromHere] = page.split("\n## Messages\n");
  const [, block] = fromHere!.split(/^```$/m);
  for (const shown of block!.trim().split("\n\n")) {
    const { happened, code, permission, script, args, redirection, says } =
      shown.match(SHOWN)!.groups!;
    await t.step(`${happened}: ${script}${args}`, async () => {
      await using server = await SERVERS[happened]?.();
      // The page has 7000 for the server's port, or for a free one.
      const port = `${server?.address.port ?? freePort()}`;
      const command = `exec "$@" ${redirection}`;
      const path = script === "server.ts" ? SERVER : CLIENT;
      const started = Script.start(path, {
        permissions: permission ? ["--allow-net"] : [],
        args: args.replace("7000", port).match(/\S+/g) ?? [],
        wrapper: ["bash", "-c", command, "bash"],
      });
      // A line, and no end of input.
      const exit = await run(started, "hello\n", { open: true });
      const said = (exit.stdout + exit.stderr).trimEnd()
        .replaceAll(port, "7000")
        // Without a network the system has other words for it.
        .replace(/(?<=lookup address information: )[^;]*/, "...");
      assert.equal(said, says);
      assert.equal(`${exit.code}`, code);
    });
  }
});

Deno.test("messages - what only the system refuses is one line, too", async () => {
  // A link-local address without its interface is EINVAL, and a TypeError in Deno.
  for (const hostname of ["fe80::1", "two\nlines"]) {
    for (const path of [SERVER, CLIENT]) {
      const args = ["--hostname", hostname];
      const exit = await run(Script.start(path, { args }));
      const stderr = /^(server|client): [^\n]*\n$/;
      expectExit(exit, { code: 1, stdout: "", stderr });
    }
  }
});

Deno.test("messages - while a terminal asks, no time limit runs (python3)", {
  ignore: Deno.build.os === "windows" || !has("python3"),
}, async () => {
  await using copy = await changed(CLIENT, "10_000", "1_000");
  await using server = await startServer();
  await using script = Script.command([
    ...[...TERMINAL, Deno.execPath(), "run", copy.path],
    ...["--port", `${server.address.port}`],
  ]);
  await script.stdoutMatch(/requests net access/);
  await pause(1500); // and it would be over
  // Deno throws away what is typed too early.
  const typing = setInterval(() => script.write("y\n"), 200);
  await script.stdoutMatch(/ is connected to /)
    .finally(() => clearInterval(typing));
});
