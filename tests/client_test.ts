// SPDX-License-Identifier: 0BSD

/** The client as a process: pipes, a terminal, and servers that let it down. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import type { Ending } from "../lib/parts/process.ts";
import { type Address, readAll, writeAll } from "../lib/parts/tcp.ts";
import { has, NOT_BLOCKING, TERMINAL } from "./machine.ts";
import { expectUppercase, startClient, startServer } from "./pair.ts";
import { serveHere } from "./serve.ts";

/** Runs the client on an input and gives its ending. */
async function client(
  address: Address,
  input: string | Uint8Array,
): Promise<Ending & { bytes: Uint8Array }> {
  await using script = startClient(address);
  // A client that fails ends before it has read all of its input.
  await script.write(input).then(() => script.closeInput()).catch(() => {});
  return { ...await script.ending(), bytes: script.stdoutBytes };
}

/** A textbook's server: reads once, replies, and closes. */
async function replyOnce(socket: Deno.TcpConn): Promise<void> {
  await socket.read(new Uint8Array(4096));
  await writeAll(socket, new TextEncoder().encode("BYE\n"));
}

Deno.test("client - standard input to the server, replies to standard output, exit code 0", async () => {
  await using server = await startServer();
  const long = "Ελλάδα και Italia\n".repeat(220_000); // 5 MB
  for (const input of ["perché no? ß\n", "no line end", "", long]) {
    await using script = startClient(server.address);
    await expectUppercase(script, input);
  }
});

Deno.test("client - bytes stay untouched both ways, also after the end of input", async () => {
  await using echo = serveHere(async (socket) => {
    await writeAll(socket, await readAll(socket));
  });
  const input = crypto.getRandomValues(new Uint8Array(65_536));
  const { code, bytes } = await client(echo.address, input);
  assert.equal(code, 0);
  assert.deepEqual(bytes, input);
});

Deno.test("client - a reply is printed before the input ends", async () => {
  await using server = await startServer();
  await using script = startClient(server.address);
  for (const word of ["one", "two", "three"]) {
    await script.write(`${word}\n`);
    await script.stdoutMatch(new RegExp(`${word.toUpperCase()}\n$`));
  }
  await script.closeInput();
  assert.equal((await script.ending()).code, 0);
});

Deno.test("client - a textbook's server that is quicker than the end of a short input", async () => {
  await using textbook = serveHere(replyOnce);
  await using script = startClient(textbook.address);
  await script.write("ciao\n");
  await script.stdoutMatch(/BYE\n/); // and closed: now the client waits 500 ms
  await pause(50);
  await script.closeInput();
  const { code, stderr } = await script.ending();
  assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
});

Deno.test("client - a line that is typed after the server has closed is not lost in silence", async () => {
  await using server = serveHere(async (socket) => {
    await replyOnce(socket);
    await socket.closeWrite();
    await readAll(socket); // a reset would tell the client as much
  });
  await using script = startClient(server.address);
  await script.write("ciao\n");
  await script.stdoutMatch(/BYE\n/);
  await pause(200); // nothing shows when it has read the end of file
  await script.write("too late\n");
  await script.closeInput();
  const { code, stderr } = await script.ending();
  assert.match(stderr, /^client: \S+ closed before the end of input .*\n$/);
  assert.equal(code, 1);
});

Deno.test("client - a server that closes in the middle of 5 MB, after a reply", async () => {
  await using closing = serveHere(replyOnce);
  const input = new Uint8Array(5_000_000);
  const { code, stdout, stderr } = await client(closing.address, input);
  // A reset takes away what was not read yet, on Windows.
  if (Deno.build.os !== "windows") assert.equal(stdout, "BYE\n");
  assert.match(
    stderr,
    /^client: (127\S* closed before|lost the connection).*\n$/,
  );
  assert.equal(code, 1);
});

Deno.test("client - a server that resets at once is a lost connection", async () => {
  const server = createServer((socket) => socket.resetAndDestroy());
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  for (let round = 0; round < 10; round++) {
    const address = { hostname: "127.0.0.1", port };
    const { code, stderr } = await client(address, "a\n");
    assert.match(stderr, /^client: lost the connection to 127\S+: .*\n$/);
    assert.equal(code, 1);
  }
  await once(server.close(), "close");
});

Deno.test("client - a closed standard output ends it quietly", {
  ignore: !has("bash"),
}, async () => {
  await using server = await startServer();
  const wrapper = [
    ...["bash", "-c"],
    `yes ciao | "$0" "$@" | head -1; echo "\${PIPESTATUS[1]}"`,
  ];
  await using pipeline = startClient(server.address, { wrapper });
  const { stdout, stderr } = await pipeline.ending();
  assert.deepEqual({ stdout, stderr }, { stdout: "CIAO\n0\n", stderr: "" });
});

Deno.test({
  name:
    "client - a full pipe that does not block gets the whole reply (python3)",
  ignore: Deno.build.os === "windows" || !has("python3"),
  async fn() {
    await using server = await startServer();
    // Nothing outside shows when the pipe is full: two seconds are enough for it.
    const shell = '"$@" | { sleep 2; wc -c; }; echo "${PIPESTATUS[0]}"';
    const wrapper = ["bash", "-c", shell, "bash", ...NOT_BLOCKING];
    await using script = startClient(server.address, { wrapper });
    await script.write("a".repeat(1_000_000));
    await script.closeInput();
    const { stdout, stderr } = await script.ending();
    assert.deepEqual({ stdout, stderr }, {
      stdout: "1000000\n0\n",
      stderr: "",
    });
  },
});

Deno.test(
  "client - on a terminal: who is connected, replies, Ctrl-D (python3)",
  {
    ignore: Deno.build.os === "windows" || !has("python3"),
  },
  async () => {
    await using server = await startServer();
    await using terminal = startClient(server.address, { wrapper: TERMINAL });
    const { port } = server.address;
    await terminal.stdoutMatch(
      new RegExp(
        `client: 127\\.0\\.0\\.1:\\d+ is connected to 127\\.0\\.0\\.1:${port}; Ctrl-D on an empty line ends`,
      ),
    );
    await terminal.write("perché\n");
    await terminal.stdoutMatch(/PERCHÉ\r\n/);
    await terminal.write("no?\n");
    await terminal.stdoutMatch(/NO\?\r\n/);
    await terminal.write("\x04");
    const { code, stdout } = await terminal.ending();
    assert.equal(code, 0);
    assert.equal(stdout.match(/client: /g)?.length, 1, stdout);
  },
);
