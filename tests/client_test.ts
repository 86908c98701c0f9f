// SPDX-License-Identifier: 0BSD

/** The client as a process: pipes, a terminal, and servers that let it down. */

import assert from "node:assert/strict";
import { createServer } from "node:net";
import { join } from "node:path";
import { type Ending, listening, Script } from "../lib/parts/process.ts";
import { type Address, readAll, writeAll } from "../lib/parts/tcp.ts";
import { freePort, has, TERMINAL } from "./machine.ts";
import { CLIENT, SERVER, startClient, startServer } from "./pair.ts";
import { wrongServer } from "./wrong/in_process.ts";

/** Runs the client on an input and gives its ending. */
async function client(
  address: Address,
  input: string | Uint8Array,
): Promise<Ending> {
  await using script = startClient(address);
  // A client that fails ends before it has read all of its input.
  await script.write(input).then(() => script.closeInput()).catch(() => {});
  return await script.ending();
}

/** Reads the first bytes that come. */
async function firstBytes(socket: Deno.TcpConn): Promise<string> {
  const buffer = new Uint8Array(4096);
  const count = await socket.read(buffer);
  return new TextDecoder().decode(buffer.subarray(0, count ?? 0));
}

Deno.test("client - standard input to the server, replies to standard output, exit code 0", async (t) => {
  await using server = await startServer();
  const inputs: [name: string, input: string][] = [
    ["a line", "perché no? ß\n"],
    ["no line end", "ciao"],
    ["nothing", ""],
    ["5 MB", "Ελλάδα και Italia\n".repeat(220_000)],
  ];
  for (const [name, input] of inputs) {
    await t.step(name, async () => {
      const { code, stdout, stderr } = await client(server.address, input);
      assert.ok(stdout === input.toUpperCase(), "the reply is not the whole");
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    });
  }
});

Deno.test("client - bytes stay untouched both ways", async () => {
  await using echo = wrongServer(async (socket) => {
    await writeAll(socket, await readAll(socket));
  });
  const bytes = crypto.getRandomValues(new Uint8Array(65_536));
  await using script = startClient(echo.address);
  await script.write(bytes);
  await script.closeInput();
  const { code } = await script.ending();
  assert.equal(code, 0);
  assert.deepEqual(script.stdoutBytes, bytes);
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

Deno.test("client - waits for the last reply after the end of input", async () => {
  await using late = wrongServer(async (socket) => {
    const text = new TextDecoder().decode(await readAll(socket));
    await writeAll(socket, new TextEncoder().encode(text.toUpperCase()));
  });
  const { code, stdout } = await client(late.address, "one\ntwo\n");
  assert.deepEqual({ code, stdout }, { code: 0, stdout: "ONE\nTWO\n" });
});

Deno.test("client - a textbook server: one line, one reply, closed", async () => {
  await using textbook = wrongServer(async (socket) => {
    const line = await firstBytes(socket);
    await writeAll(socket, new TextEncoder().encode(line.toUpperCase()));
  });
  const { code, stdout, stderr } = await client(textbook.address, "ciao\n");
  assert.deepEqual({ code, stdout, stderr }, {
    code: 0,
    stdout: "CIAO\n",
    stderr: "",
  });
});

Deno.test({
  name:
    "client - a textbook server that is quicker than the end of a short input",
  ignore: !has("bash"),
  async fn() {
    await using textbook = wrongServer(async (socket) => {
      await writeAll(
        socket,
        new TextEncoder().encode(await firstBytes(socket)),
      );
    });
    await using pipeline = Script.command([
      "bash",
      "-c",
      '(echo ciao; sleep 0.05) | "$0" run --allow-net "$@"',
      Deno.execPath(),
      CLIENT,
      `--port=${textbook.address.port}`,
    ]);
    const { code, stdout, stderr } = await pipeline.ending();
    assert.deepEqual({ code, stdout, stderr }, {
      code: 0,
      stdout: "ciao\n",
      stderr: "",
    });
  },
});

Deno.test("client - says so when the server ends while it waits for the keyboard", async (t) => {
  await t.step("the server closes", async () => {
    await using closing = wrongServer(async (socket) => {
      await firstBytes(socket);
      await writeAll(socket, new TextEncoder().encode("BYE\n"));
    });
    await using script = startClient(closing.address);
    await script.write("hello\n"); // and the input stays open
    const { code, stdout, stderr } = await script.ending();
    assert.equal(stdout, "BYE\n");
    assert.match(
      stderr,
      /^client: 127\S* closed before the end of input: .*\n$/,
    );
    assert.equal(code, 1);
  });

  await t.step("the server is killed", async () => {
    await using server = await startServer();
    await using script = startClient(server.address);
    await script.write("hello\n");
    await script.stdoutMatch(/HELLO\n/);
    server.script.kill("SIGKILL");
    const { code, stderr } = await script.ending();
    assert.match(
      stderr,
      Deno.build.os === "windows" // it resets what a killed process had open
        ? /^client: lost the connection to 127.*\n$/
        : /^client: 127\S* closed before the end of input: .*\n$/,
    );
    assert.equal(code, 1);
  });

  await t.step({
    name: "the connection is reset (python3)",
    ignore: !has("python3"),
    async fn() {
      await using resetting = Script.command([
        "python3",
        "-u",
        "-c",
        `
import socket, struct
with socket.create_server(("127.0.0.1", 0)) as server:
    print("listening on 127.0.0.1:%d" % server.getsockname()[1])
    with server.accept()[0] as s:
        s.recv(4096)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
`,
      ]);
      await using script = startClient(await listening(resetting));
      await script.write("hello\n");
      const { code, stderr } = await script.ending();
      assert.match(stderr, /^client: lost the connection to 127.*\n$/);
      assert.equal(code, 1);
    },
  });

  await t.step(
    "the server closes in the middle of 5 MB, after a reply",
    async () => {
      await using closing = wrongServer(async (socket) => {
        await firstBytes(socket);
        await writeAll(socket, new TextEncoder().encode("BYE\n"));
      });
      const { code, stdout, stderr } = await client(
        closing.address,
        new Uint8Array(5_000_000),
      );
      // A reset takes away what was not read yet, on Windows.
      if (Deno.build.os !== "windows") assert.equal(stdout, "BYE\n");
      assert.match(
        stderr,
        /^client: (127\S* closed before|lost the connection).*\n$/,
      );
      assert.equal(code, 1);
    },
  );
});

Deno.test("client - a closed standard output ends it quietly", {
  ignore: !has("bash"),
}, async () => {
  await using server = await startServer();
  const { hostname, port } = server.address;
  await using pipeline = Script.command([
    "bash",
    "-c",
    `yes ciao | "$0" run --allow-net "$@" | head -1; echo "\${PIPESTATUS[1]}"`,
    Deno.execPath(),
    CLIENT,
    `--hostname=${hostname}`,
    `--port=${port}`,
  ]);
  const { stdout, stderr } = await pipeline.ending();
  assert.deepEqual({ stdout, stderr }, { stdout: "CIAO\n0\n", stderr: "" });
});

Deno.test({
  name: "client - on a terminal: who is connected, replies, Ctrl-D (script)",
  ignore: Deno.build.os !== "linux" || !has("script"),
  async fn() {
    await using server = await startServer();
    const { port } = server.address;
    const command =
      `${Deno.execPath()} run --allow-net ${CLIENT} --port ${port} 2>&1`;
    await using terminal = Script.command(
      ["script", "--quiet", "--return", "--command", command, "/dev/null"],
    );
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
});

Deno.test("client - a server that resets at once is a lost connection", async () => {
  const server = createServer((socket) => socket.resetAndDestroy());
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => {
      resolve((server.address() as { port: number }).port);
    })
  );
  for (let round = 0; round < 10; round++) {
    const { code, stderr } = await client(
      { hostname: "127.0.0.1", port },
      "a\n",
    );
    assert.match(stderr, /^client: lost the connection to 127\S+: .*\n$/);
    assert.equal(code, 1);
  }
  await new Promise((resolve) => server.close(resolve));
});

Deno.test("client - a refusal is answered for this machine, however it is written", async () => {
  const port = freePort();
  for (const hostname of ["2130706433", "127.1", "::ffff:127.0.0.1"]) {
    const { code, stderr } = await client({ hostname, port }, "");
    assert.match(stderr, /^client: nothing listens on .*\n$/);
    assert.doesNotMatch(stderr, /0\.0\.0\.0|--hostname ::/, "it would be open");
    assert.equal(code, 1);
  }
});

Deno.test("client - a line break in an option stays in one line", async () => {
  const hostname = "two\nlines";
  const { code, stderr } = await client({ hostname, port: 6789 }, "");
  assert.match(stderr, /^client: cannot reach two lines:6789: .*\n$/);
  assert.equal(code, 1);
});

Deno.test(
  "client - the time limit does not run while Deno's question waits (python3)",
  {
    ignore: !has("python3") || Deno.build.os === "windows",
  },
  async () => {
    const folder = await Deno.makeTempDir();
    const copy = join(folder, "client.ts");
    const text = await Deno.readTextFile(CLIENT);
    assert.ok(text.includes("TIME_LIMIT = 10_000"));
    await Deno.writeTextFile(copy, text.replace("10_000", "1_000"));
    await using server = await startServer();
    const { port } = server.address;
    const command = [Deno.execPath(), "run", copy, "--port", `${port}`];
    await using terminal = Script.command([...TERMINAL, ...command]);
    await terminal.stdoutMatch(/requests net access[^]*>/);
    await new Promise((resolve) => setTimeout(resolve, 1500)); // and it would be over
    const typing = setInterval(
      () => terminal.write("y\n").catch(() => {}),
      200,
    );
    await terminal.stdoutMatch(/ is connected to /);
    clearInterval(typing);
    await Deno.remove(folder, { recursive: true });
  },
);

Deno.test("--help tells a full disk with exit code 1", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  for (const path of [SERVER, CLIENT]) {
    const wrapper = ["bash", "-c", 'exec "$0" "$@" >/dev/full'];
    await using script = Script.start(path, { wrapper, args: ["--help"] });
    const { code, stderr } = await script.ending();
    assert.match(
      stderr,
      /^(server|client): cannot write standard output: .*\n$/,
    );
    assert.equal(code, 1);
  }
});
