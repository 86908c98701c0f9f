// SPDX-License-Identifier: 0BSD

/** The client as a process: pipes, a terminal, and servers that let it down. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { run } from "../lib/parts/process.ts";
import { format, writeAll } from "../lib/parts/tcp.ts";
import { has, TERMINAL } from "./machine.ts";
import {
  expectExit,
  expectUppercase,
  startClient,
  startServer,
} from "./pair.ts";
import { readAll, serveHere, writeText } from "./sockets.ts";

const windows = Deno.build.os === "windows";

/** What the client says of a server that has gone. */
const LOST = /^client: lost the connection to 127\S+: .*\n$/;

/** A textbook's server: reads once, replies, and closes. */
async function replyOnce(socket: Deno.TcpConn): Promise<void> {
  await socket.read(new Uint8Array(4096));
  await writeText(socket, "BYE\n");
}

Deno.test("client - standard input to the server, replies to standard output, exit code 0", async () => {
  await using server = await startServer();
  const long = "Ελλάδα και Italia\n".repeat(220_000); // 5 MB
  for (const input of ["perché no? ß\n", "no line end", "", long]) {
    await expectUppercase(startClient(server.address), input);
  }
});

Deno.test("client - bytes stay untouched both ways, also after the end of input", async () => {
  await using echo = serveHere(async (socket) => {
    await writeAll(socket, await readAll(socket));
  });
  const input = crypto.getRandomValues(new Uint8Array(65_536));
  const exit = await run(startClient(echo.address), input);
  expectExit(exit);
  // Not deepEqual(), whose message would show all of them.
  const isSame = Buffer.compare(exit.bytes, input) === 0;
  assert.ok(isSame, "bytes are lost, or others");
});

Deno.test("client - a reply is printed before the input ends", async () => {
  await using server = await startServer();
  await using script = startClient(server.address);
  for (const word of ["one", "two", "three"]) {
    await script.write(`${word}\n`);
    await script.stdoutMatch(new RegExp(`${word.toUpperCase()}\n$`));
  }
  await script.closeInput();
  expectExit(await script.exit());
});

Deno.test("client - a textbook's server that is quicker than the end of a short input", async () => {
  await using textbook = serveHere(replyOnce);
  await using script = startClient(textbook.address);
  await script.write("ciao\n");
  await script.stdoutMatch(/BYE\n/); // and closed: now the client waits 500 ms
  await pause(50);
  await script.closeInput();
  expectExit(await script.exit());
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
  const stderr = /^client: lost .* before the end of input; .*\n$/;
  expectExit(await script.exit(), { code: 1, stderr });
});

Deno.test(
  "client - a line that is typed while the server closes is not lost in silence",
  {
    ignore: windows,
  },
  async () => {
    // Which of the two the client sees first is chance.
    for (let round = 0; round < 10; round++) {
      const stopped = Promise.withResolvers<void>();
      await using server = serveHere(async (socket) => {
        await replyOnce(socket);
        await stopped.promise;
      });
      await using script = startClient(server.address);
      await script.write("ciao\n");
      await script.stdoutMatch(/BYE\n/);
      script.kill("SIGSTOP");
      stopped.resolve();
      await pause(0); // now the server has closed
      await script.write("too late\n");
      await script.closeInput();
      script.kill("SIGCONT");
      expectExit(await script.exit(), { code: 1, stderr: LOST });
    }
  },
);

Deno.test("client - a server that closes in the middle of 5 MB, after a reply", async () => {
  await using closing = serveHere(replyOnce);
  const input = new Uint8Array(5_000_000);
  const exit = await run(startClient(closing.address), input);
  // A reset takes away what was not read yet, on Windows.
  const stdout = windows ? exit.stdout : "BYE\n";
  expectExit(exit, { code: 1, stdout, stderr: LOST });
});

Deno.test("client - a server that resets at once is a lost connection", async () => {
  const server = createServer((socket) => socket.resetAndDestroy());
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  for (let round = 0; round < 10; round++) {
    const address = { hostname: "127.0.0.1", port };
    const exit = await run(startClient(address), "a\n");
    expectExit(exit, { code: 1, stderr: LOST });
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
  const pipeline = startClient(server.address, { wrapper });
  expectExit(await run(pipeline), { stdout: "CIAO\n0\n" });
});

Deno.test(
  "client - a closed standard input is empty, a closed output is quiet",
  {
    ignore: !has("bash"),
  },
  async () => {
    await using server = await startServer();
    for (const closed of ["<&-", ">&-", "<&- >&-"]) {
      const wrapper = ["bash", "-c", `exec "$0" "$@" ${closed}`];
      const client = startClient(server.address, { wrapper });
      expectExit(await run(client, "perché\n"), { stdout: "" });
    }
  },
);

/**
 * Runs a command whose standard output, a pipe or a terminal, does not block and is
 * not read until the command has ended.
 */
const FULL = `
import os, pty, subprocess, sys, tty
if sys.argv[1] == "a pipe":
    reader, writer = os.pipe()
else:
    reader, writer = pty.openpty()
    tty.setraw(writer)
os.set_blocking(writer, False)
code = subprocess.call(sys.argv[2:], stdout=writer, timeout=20)
os.close(writer)
try:
    while part := os.read(reader, 65536):
        sys.stdout.buffer.write(part)
except OSError:
    pass # the end of a terminal
sys.exit(code)
`;

Deno.test({
  name:
    "client - a full standard output that does not block gets no byte twice (python3)",
  ignore: windows || !has("python3"),
  async fn(t) {
    await using server = await startServer();
    const line = "perché no? ß\n";
    const whole = Buffer.from(line.repeat(100_000).toUpperCase());
    for (const output of ["a pipe", "a terminal"]) {
      await t.step(output, async () => {
        const wrapper = ["python3", "-c", FULL, output];
        const client = startClient(server.address, { wrapper });
        // It ends before it has read all.
        const exit = await run(client, line.repeat(100_000), { open: true });
        const stderr = /^client: cannot write standard output: .*\n$/;
        expectExit(exit, { code: 1, stderr });
        const { bytes } = exit;
        assert.ok(bytes.length > 0, "nothing of the reply came");
        const beginning = whole.subarray(0, bytes.length);
        const isSame = Buffer.compare(bytes, beginning) === 0;
        assert.ok(isSame, "what came is not the beginning of the reply");
      });
    }
  },
});

Deno.test(
  "client - on a terminal: who is connected, replies, Ctrl-D (python3)",
  {
    ignore: windows || !has("python3"),
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
    await terminal.write("metà\x04"); // Ctrl-D after half a line sends it
    await terminal.stdoutMatch(/METÀ$/);
    await terminal.write("\x04");
    const { code, stdout } = await terminal.exit();
    assert.equal(code, 0);
    assert.equal(stdout.match(/client: /g)?.length, 1, stdout);
  },
);

// ------------------------------------------------- a server that does not close

/** Replies to all at the end of input, and does not close before `close` settles. */
function neverClosing(close: Promise<void>) {
  return serveHere(async (socket) => {
    await writeAll(socket, await readAll(socket));
    await close;
  });
}

async function toldOnce(): Promise<void> {
  const close = Promise.withResolvers<void>();
  await using server = neverClosing(close.promise);
  await using script = startClient(server.address);
  await script.write("perché\n");
  await script.closeInput();
  await script.stderrMatch(/\n$/);
  close.resolve();
  expectExit(await script.exit(), {
    stdout: "perché\n",
    stderr: `client: all is sent, but ${format(server.address)} ` +
      `has not closed its side; Ctrl-C ends\n`,
  });
}

async function toldOnTerminal(): Promise<void> {
  const close = Promise.withResolvers<void>();
  await using server = neverClosing(close.promise);
  await using terminal = startClient(server.address, { wrapper: TERMINAL });
  await terminal.stdoutMatch(/ ends\r\n$/);
  await terminal.write("\x04");
  await terminal.stdoutMatch(/client: all is sent, .*\r\n$/);
  await terminal.write("\x03"); // Ctrl-C ends, as the line says
  await terminal.exit();
  close.resolve();
}

async function slowReply(): Promise<void> {
  await using server = serveHere(async (socket) => {
    await readAll(socket);
    for (let second = 0; second < 7; second++) {
      await pause(1000);
      await writeText(socket, "è\n");
    }
  });
  const exit = await run(startClient(server.address));
  expectExit(exit, { stdout: "è\n".repeat(7) });
}

async function slowScreen(): Promise<void> {
  await using server = await startServer();
  const wrapper = ["bash", "-c", '"$@" | { sleep 7; cat; }', "bash"];
  await using script = startClient(server.address, { wrapper });
  await expectUppercase(script, "perché no?\n".repeat(100_000));
}

Deno.test({
  name:
    "client - five seconds after the end of input it says that the server is silent (python3)",
  ignore: windows || !has("python3"),
  async fn() {
    // No slow reply and no slow screen counts as silence.
    await Promise.all([
      toldOnce(),
      toldOnTerminal(),
      slowReply(),
      slowScreen(),
    ]);
  },
});
