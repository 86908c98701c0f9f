// SPDX-License-Identifier: 0BSD

/** How the server ends: by signals, with its terminal, and without its log. */

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { listening, Script } from "../lib/parts/process.ts";
import { readAll, talk, writeAll } from "../lib/parts/tcp.ts";
import { connectionStates, has, TERMINAL } from "./machine.ts";
import {
  ask,
  SERVER,
  startFlood,
  startLoggedServer,
  startServer,
  TEXT,
  UPPER,
} from "./pair.ts";

// On Windows a signal from outside just ends the process:
// https://github.com/denoland/deno/pull/32689
const windows = Deno.build.os === "windows";

Deno.test("ends - the first signal ends it with exit code 0", {
  ignore: windows,
}, async (t) => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    await t.step(`${signal}, no client`, async () => {
      await using server = await startServer();
      server.script.kill(signal);
      const { code, stderr } = await server.script.ending();
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    });
  }

  await t.step("an idle client is closed", async () => {
    await using server = await startServer();
    using idle = await Deno.connect(server.address);
    await ask(idle, "hello\n");
    server.script.kill("SIGINT");
    assert.equal((await readAll(idle)).length, 0);
    const { code, stdout } = await server.script.ending();
    assert.equal(code, 0);
    assert.match(
      stdout,
      /stopping, 1 open; Ctrl-C again stops at once\n.*closed, .*: the server is stopping\n$/,
    );
  });

  await t.step(
    "a transfer in progress ends, to a reader that pauses too",
    async () => {
      await using server = await startServer();
      using idle = await Deno.connect(server.address);
      await ask(idle, "hello\n");
      using busy = await Deno.connect(server.address);
      const sending = writeAll(busy, TEXT).then(() => busy.closeWrite());
      await busy.read(new Uint8Array(1));
      server.script.kill("SIGTERM");
      await readAll(idle); // closed: it was quiet
      const [rest] = await Promise.all([readAll(busy), sending]);
      assert.equal(
        1 + rest.length,
        UPPER.length,
        "bytes of the reply were lost",
      );
      assert.equal((await server.script.ending()).code, 0);
    },
  );

  await t.step("nobody new comes in", async () => {
    await using server = await startServer();
    using busy = await Deno.connect(server.address);
    await ask(busy, "hello\n");
    server.script.kill("SIGTERM");
    await server.script.stdoutMatch(/stopping/);
    await assert.rejects(
      () => Deno.connect(server.address),
      Deno.errors.ConnectionRefused,
    );
  });
});

Deno.test("ends - the second signal drops everything, exit code 130", {
  ignore: windows,
}, async () => {
  await using server = await startServer();
  using busy = await Deno.connect(server.address);
  const sending = writeAll(busy, TEXT).catch(() => {});
  await busy.read(new Uint8Array(1)); // and no more: the transfer is stuck
  server.script.kill("SIGINT");
  await server.script.stdoutMatch(/stopping/);
  // Within a tenth of a second they are one: see below.
  const insisting = setInterval(() => server.script.kill("SIGINT"), 50);
  const { code, stderr } = await server.script.ending();
  clearInterval(insisting);
  assert.deepEqual({ code, stderr }, { code: 130, stderr: "" });
  await readAll(busy).catch(() => {});
  await sending;
});

Deno.test({
  name: "ends - one Ctrl-C that `deno task` passes on is one (python3)",
  ignore: windows || !has("python3"),
  async fn() {
    const task = [Deno.execPath(), "task", "--eval"];
    await using script = Script.command([
      ...TERMINAL,
      ...task,
      `"${Deno.execPath()}" run --allow-net "${SERVER}" --port 0`,
    ]);
    using _idle = await Deno.connect(await listening(script));
    await script.stdoutMatch(/ connected, 1 open/);
    await script.write("\x03"); // the terminal makes a signal of it
    const { code, stdout } = await script.ending();
    assert.match(stdout, /: the server is stopping\r\n/);
    assert.equal(code, 0);
  },
});

Deno.test({
  name: "ends - a log that nobody reads stops nobody",
  ignore: windows || !has("mkfifo"),
  async fn(t) {
    for (const end of ["blocked", "closed"]) {
      await t.step(end, async () => {
        await using server = await startLoggedServer(SERVER);
        const { script, log, address } = server;
        if (end === "closed") log.close();
        // Two lines each: far more than a pipe holds (64 KiB on Linux).
        for (let client = 0; client < 2500; client++) {
          assert.equal(await talk(address, "a\n"), "A\n");
        }
        script.kill();
        if (end === "blocked") {
          const text = await new Response(log.readable).text();
          const [, lost] = text.match(/^([0-9]+) lines lost$/m)!;
          const shown = text.match(/ (connected|closed), /g)!.length;
          assert.equal(Number(lost) + shown, 5000, "lines lost are counted");
        }
        const { code, stderr } = await script.ending();
        assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      });
    }
  },
});

Deno.test({
  name: "ends - lines that a pipe does not take are counted (python3)",
  ignore: windows || !has("python3"),
  async fn() {
    // A pipe that does not block, and is not read until all clients have gone.
    const program = `
import fcntl, os, signal, socket, subprocess, sys
reading, writing = os.pipe()
fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK | os.O_WRONLY)
server = subprocess.Popen(sys.argv[1:], stdout=writing)
os.close(writing)
log = os.read(reading, 4096)
for _ in range(3000):
    client = socket.create_connection(("127.0.0.1", int(log.split(b":")[1])))
    client.shutdown(socket.SHUT_WR)
    client.recv(1)
    client.close()
server.send_signal(signal.SIGTERM)
while data := os.read(reading, 4096): log += data
sys.stdout.buffer.write(log)
sys.exit(server.wait())
`;
    const command = [Deno.execPath(), "run", "--allow-net", SERVER, "--port=0"];
    await using script = Script.command(["python3", "-c", program, ...command]);
    const { code, stdout, stderr } = await script.ending();
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    const shown = stdout.match(/ (connected|closed), /g)!.length;
    const lost = [...stdout.matchAll(/^(\d+) lines lost$/gm)]
      .reduce((sum, [, count]) => sum + Number(count), 0);
    assert.ok(lost > 0, "the pipe was to be full");
    assert.equal(shown + lost, 6000, "lines that are not shown are counted");
  },
});

Deno.test("ends - the time in which it is suspended is nobody's silence", {
  ignore: windows,
}, async () => {
  await using server = await startServer();
  const clients = await Promise.all(Array.from({ length: 15 }, async () => {
    const client = await Deno.connect(server.address);
    await ask(client, "hello\n");
    return client;
  }));
  server.script.kill("SIGTERM");
  await server.script.stdoutMatch(/stopping/);
  server.script.kill("SIGSTOP");
  const replies = Promise.all(clients.map(async (client) => {
    using _ = client;
    const sending = writeAll(client, TEXT).then(() => client.closeWrite());
    const [reply] = await Promise.all([readAll(client), sending]);
    return reply.length;
  }));
  replies.catch(() => {}); // told where it is awaited
  // No event ends this wait: it is longer than a quiet client may stay.
  await pause(3000);
  server.script.kill("SIGCONT");
  for (const length of await replies) {
    assert.equal(length, UPPER.length, "bytes of a reply were lost");
  }
  assert.equal((await server.script.ending()).code, 0);
});

Deno.test({
  name:
    "ends - Ctrl-C in a flood: no more than ten seconds, exit code 0 (python3)",
  ignore: windows || !has("python3"),
  async fn() {
    await using server = await startServer();
    await using _flood = await startFlood(server.address);
    await server.script.stdoutMatch(/ connected, 4 open/);
    const signalled = performance.now();
    server.script.kill("SIGINT");
    const { code, stdout, stderr } = await server.script.ending();
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.equal(stdout.match(/: the server stopped\n/g)?.length, 4, stdout);
    const took = performance.now() - signalled;
    assert.ok(took < 15_000, `it took ${took} ms, and was to take 10,000`);
  },
});

Deno.test({
  name: "ends - killed, it starts again on its port at once, beside TIME_WAIT",
  ignore: Deno.build.os !== "linux",
  async fn() {
    let port: number;
    {
      await using server = await startServer(["--idle-timeout", "1"]);
      ({ port } = server.address);
      // The side that closes first keeps the connection in TIME_WAIT.
      await Promise.all(Array.from({ length: 40 }, async () => {
        using silent = await Deno.connect(server.address);
        assert.equal((await readAll(silent)).length, 0);
      }));
      // Not all: the system may use some again for connections of others.
      assert.ok(await timeWait(port) >= 20, "nothing is in TIME_WAIT");
      using talking = await Deno.connect(server.address);
      await ask(talking, "hello\n");
      server.script.kill("SIGKILL");
      await server.script.ending();
    }
    assert.ok(await timeWait(port) >= 20, "nothing is left in TIME_WAIT");
    await using again = await startServer([], { port });
    assert.equal(await talk(again.address, "hello\n"), "HELLO\n");
  },
});

/** How many connections of a local port are in TIME_WAIT. */
async function timeWait(port: number): Promise<number> {
  const states = await connectionStates();
  return states.filter((state) =>
    state.startsWith(`${port} `) && state.endsWith("TIME_WAIT")
  ).length;
}

Deno.test({
  name: "ends - with its terminal, and not under setsid (python3)",
  ignore: !has("python3") || !has("setsid"),
  async fn(t) {
    // Starts a command with a terminal of its own, but our standard output, as
    // in `command > log`; closes the terminal when asked to, and says how the
    // command ended.
    const program = `
import os, pty, sys
log = os.dup(1)
pid, terminal = pty.fork()
if pid == 0:
    os.dup2(log, 1)
    os.execvp(sys.argv[1], sys.argv[1:])
sys.stdin.readline()
os.close(terminal)
_, status = os.waitpid(pid, 0)
print("signal", os.WTERMSIG(status), "exit code", os.WEXITSTATUS(status))
`;
    const terminal = ["python3", "-c", program];

    await t.step("SIGHUP ends it, as any program", async () => {
      await using server = await startServer([], { wrapper: terminal });
      await server.script.write("close\n");
      await server.script.stdoutMatch(/^signal 1 exit code 0$/m);
    });

    // Not nohup: from Deno 2.6 on, a listener to any signal undoes that.
    await t.step("under setsid it goes on", async () => {
      const shell = 'setsid "$@" & echo "server $!"; wait';
      const wrapper = [...terminal, "bash", "-c", shell, "bash"];
      await using server = await startServer([], { wrapper });
      const [, pid] = await server.script.stdoutMatch(/^server (\d+)$/m);
      await server.script.write("close\n");
      await server.script.stdoutMatch(/^signal 1 exit code 0$/m); // the shell
      assert.equal(await talk(server.address, "hello\n"), "HELLO\n");
      Deno.kill(Number(pid), "SIGTERM");
      await server.script.ending(); // not before the log has ended
    });
  },
});
