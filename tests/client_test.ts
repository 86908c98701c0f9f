// SPDX-License-Identifier: 0BSD

/** The client as a process: pipes, a terminal, and servers that let it down. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { setTimeout as pause } from "node:timers/promises";
import { run, Script } from "../lib/parts/process.ts";
import { format, writeAll } from "../lib/parts/tcp.ts";
import { has, TERMINAL } from "./machine.ts";
import {
  changed,
  CLIENT,
  expectExit,
  expectSame,
  expectUppercase,
  startClient,
  startServer,
} from "./pair.ts";
import { readAll, resetHere, serveHere, writeText } from "./sockets.ts";

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
    await pause(300); // until no more bytes fit between both
    await writeAll(socket, await readAll(socket));
  });
  const input = new Uint8Array(128 * 65_536);
  for (let at = 0; at < input.length; at += 65_536) {
    crypto.getRandomValues(input.subarray(at, at + 65_536)); // takes no more
  }
  const exit = await run(startClient(echo.address), input);
  expectExit(exit);
  expectSame(exit.bytes, input);
});

Deno.test("client - a reply is printed at once, and a server may close before the input ends", async () => {
  await using textbook = serveHere(replyOnce);
  await using script = startClient(textbook.address);
  await script.write("ciao\n");
  await script.stdoutMatch(/BYE\n/); // and closed: now the client waits 500 ms
  await pause(50);
  await script.closeInput();
  expectExit(await script.exit());
});

Deno.test("client - a line typed after the server has closed is not lost", async () => {
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

Deno.test("client - a line that the server misses, as it closes, is not lost", async () => {
  const closed = Promise.withResolvers<void>();
  const inputEnded = Promise.withResolvers<void>();
  await using server = serveHere(async (socket) => {
    await replyOnce(socket);
    await socket.read(new Uint8Array(1)); // the line has come
    await socket.closeWrite();
    closed.resolve();
    await inputEnded.promise;
    // Then close() leaves bytes unread: a reset. It comes late, as from far away.
    await pause(100);
  });
  await using copy = await changed(
    CLIENT,
    "RESET_TIME = 200",
    "RESET_TIME = 3000",
  );
  const args = [`--port=${server.address.port}`]; // a busy machine has time
  await using script = Script.start(copy.path, { args });
  await script.write("ciao\n");
  await script.stdoutMatch(/BYE\n/);
  await script.write("too late\n");
  await closed.promise;
  await pause(200); // nothing shows when it has read the end of file
  await script.closeInput();
  inputEnded.resolve();
  const stderr = /^client: lost .*: (Connection reset|Broken pipe).*\n$/;
  expectExit(await script.exit(), { code: 1, stderr });
});

Deno.test("client - a line typed while the server closes is not lost", {
  ignore: Deno.build.os !== "linux",
}, async () => {
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
    // 08 is CLOSE_WAIT: the end of file has come to the client's system.
    const port = server.address.port.toString(16).toUpperCase();
    const hasCome = new RegExp(` 0100007F:${port} 08 `);
    while (!hasCome.test(await Deno.readTextFile("/proc/net/tcp")));
    await script.write("too late\n");
    await script.closeInput();
    script.kill("SIGCONT");
    expectExit(await script.exit(), { code: 1, stderr: LOST });
  }
});

Deno.test("client - a server that closes in the middle of 5 MB, after a reply", async () => {
  await using closing = serveHere(replyOnce);
  const input = new Uint8Array(5_000_000);
  const exit = await run(startClient(closing.address), input);
  // A reset takes away what was not read yet, on Windows.
  const stdout = windows ? exit.stdout : "BYE\n";
  expectExit(exit, { code: 1, stdout, stderr: LOST });
});

Deno.test("client - a server that resets at once is a lost connection", async () => {
  await using server = await resetHere("connect");
  for (let round = 0; round < 10; round++) {
    const exit = await run(startClient(server.address), "a\n");
    expectExit(exit, { code: 1, stderr: LOST });
  }
});

Deno.test("client - connected to itself: nothing listens there (unshare)", {
  ignore: !has("unshare") || Deno.uid() !== 0,
}, async () => {
  // In a network of its own the system has one port to give, and it is the same.
  const shell = "ip link set lo up; " +
    "echo 40000 40000 > /proc/sys/net/ipv4/ip_local_port_range; " +
    'exec "$@"';
  const wrapper = ["unshare", "-n", "sh", "-c", shell, "sh"];
  const address = { hostname: "127.0.0.1", port: 40000 };
  const exit = await run(startClient(address, { wrapper }), "hello\n");
  const stderr = /^client: cannot reach 127\S+: nothing listens there; .*\n$/;
  expectExit(exit, { code: 1, stdout: "", stderr });
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

/** Runs a command whose standard output does not block, and is read after its end. */
const FULL = `
import os, subprocess, sys
reader, writer = os.pipe()
os.set_blocking(writer, False)
code = subprocess.call(sys.argv[1:], stdout=writer, timeout=20)
os.close(writer)
sys.stdout.buffer.write(open(reader, "rb").read())
sys.exit(code)
`;

Deno.test("client - a full pipe gets no byte twice (python3)", {
  ignore: windows || !has("python3"),
}, async () => {
  await using server = await startServer();
  const input = "perché no? ß\n".repeat(100_000);
  const wrapper = ["python3", "-c", FULL];
  const client = startClient(server.address, { wrapper });
  const exit = await run(client, input, { open: true }); // it reads a part of it
  const stderr = /^client: cannot write standard output: .*\n$/;
  expectExit(exit, { code: 1, stderr });
  assert.ok(exit.bytes.length > 0, "nothing of the reply came");
  const whole = Buffer.from(input.toUpperCase());
  expectSame(exit.bytes, whole.subarray(0, exit.bytes.length));
});

Deno.test("client - on a terminal: greeting, replies, Ctrl-D (python3)", {
  ignore: windows || !has("python3"),
}, async () => {
  await using server = await startServer();
  await using terminal = startClient(server.address, { wrapper: TERMINAL });
  await terminal.stdoutMatch(
    new RegExp(
      `^client: 127\\.0\\.0\\.1:\\d+ is connected to ${
        format(server.address)
      }; Ctrl-D on an empty line ends\r\n$`,
    ),
  );
  await terminal.write("perché\n");
  await terminal.stdoutMatch(/PERCHÉ\r\n/);
  await terminal.write("metà\x04"); // Ctrl-D after half a line sends it
  await terminal.stdoutMatch(/METÀ$/);
  await terminal.write("\x04");
  const { code, stdout } = await terminal.exit();
  assert.equal(code, 0);
  assert.equal(stdout.match(/client: /g)?.length, 1, stdout);
});

// ------------------------------------------------- a server that does not close

async function toldOnce(): Promise<void> {
  const close = Promise.withResolvers<void>();
  await using server = serveHere(async (socket) => {
    await readAll(socket);
    await writeText(socket, "BYE\n");
    await close.promise;
  });
  await using script = startClient(server.address);
  await script.closeInput();
  await script.stderrMatch(/\n$/);
  close.resolve();
  expectExit(await script.exit(), {
    stdout: "BYE\n",
    stderr:
      /^client: all is sent, but 127\S+ has not closed its side; Ctrl-C ends\n$/,
  });
}

async function slowReply(): Promise<void> {
  await using server = serveHere(async (socket) => {
    await readAll(socket);
    for (let reply = 0; reply < 2; reply++) {
      await pause(4000); // no event ends this wait: it is shorter than 5 s
      await writeText(socket, "è\n");
    }
  });
  const exit = await run(startClient(server.address));
  expectExit(exit, { stdout: "è\nè\n" });
}

async function slowScreen(): Promise<void> {
  await using server = await startServer();
  const wrapper = ["bash", "-c", '"$@" | { sleep 7; cat; }', "bash"];
  await using script = startClient(server.address, { wrapper });
  await expectUppercase(script, "perché no?\n".repeat(100_000));
}

Deno.test("client - a server that is silent for five seconds is told of", {
  ignore: !has("bash"),
}, async () => {
  // No slow reply and no slow screen counts as silence.
  await Promise.all([toldOnce(), slowReply(), slowScreen()]);
});
