// SPDX-License-Identifier: 0BSD

/** `lib/watch.ts` between programs that are not ours, and what it draws of them. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import {
  listening,
  run,
  Script,
  type Server,
  type StartOptions,
} from "../lib/parts/process.ts";
import { type Address, reset, within } from "../lib/parts/tcp.ts";
import { CLIENTS, freePort, has, PEERS, TERMINAL } from "./machine.ts";
import {
  expectExit,
  expectUpper,
  expectUppercase,
  ROOT,
  startServer,
  TEXT,
} from "./pair.ts";
import {
  ask,
  exchange,
  readAll,
  serveHere,
  talk,
  writeText,
} from "./sockets.ts";

const WATCH = join(ROOT, "lib", "watch.ts");
const windows = Deno.build.os === "windows";

/** Watches a server on a free port. */
function startWatch(to: Address, options: StartOptions = {}): Promise<Server> {
  const args = ["--port=0", `--to=${to.hostname}:${to.port}`];
  return listening(Script.start(WATCH, { ...options, args }));
}

/** A server that uppercases; it replies to what comes after the end of input. */
const PYTHON_SERVER = `
import socket
with socket.create_server(("127.0.0.1", 0)) as welcome:
    print("listening on 127.0.0.1:%d" % welcome.getsockname()[1], flush=True)
    client, _ = welcome.accept()
    text = b""
    while data := client.recv(65536): text += data
    client.sendall(text.decode().upper().encode())
    client.close()
`;

for (const [program, command] of CLIENTS) {
  Deno.test({
    name:
      `watch - 3 MB from ${program}, its end, and 3 MB from python3 after it`,
    ignore: !has(program) || !has("python3"),
    async fn() {
      await using server = await listening(
        Script.command(["python3", "-c", PYTHON_SERVER]),
      );
      await using watch = await startWatch(server.address);
      const client = Script.command(command(watch.address.port));
      await expectUppercase(client, "perché no? ß 😀\r\nà\n".repeat(130_000));
      await watch.script.stdoutMatch(
        /^#1 .* sends no more +--- FIN: active close ----> *\n(#1 .* bytes .*\n)+#1 .* <-+ FIN -+ close\(\)$/m,
      );
    },
  });
}

Deno.test({
  name: "watch - the textbook's server in Java closes first",
  ignore: !has("java"),
  async fn() {
    await using server = await listening(
      Script.command(["java", `${PEERS}/Textbook.java`]),
    );
    await using watch = await startWatch(server.address);
    {
      using client = await Deno.connect(watch.address);
      assert.equal(await ask(client, "ciao\n"), "CIAO\n");
      assert.equal((await readAll(client)).length, 0);
    }
    await watch.script.stdoutMatch(
      /passive open.*\n.* connect\(\) .* active open .* accept\(\)\n.* "ciao\\n" [^]* <-+ FIN: active close -+ close\(\)\n.* sends no more +-+ FIN -+>\n/,
    );
  },
});

Deno.test("watch - a client's reset is a reset for the server", async () => {
  const failed = Promise.withResolvers<unknown>();
  await using server = serveHere(async (socket) => {
    await writeText(socket, "hello\n");
    await readAll(socket).catch(failed.resolve);
  });
  await using watch = await startWatch(server.address);
  await reset(watch.address, (_send, reply) => reply);
  const error = await within(10, failed.promise);
  assert.ok(error instanceof Deno.errors.ConnectionReset, `${error}`);
  await watch.script.stdoutMatch(/ reset +-+ RST -+>\n.* the client broke off/);
});

Deno.test("watch - a server's reset is a reset for the client, after the bytes before it", async () => {
  const server = createServer((socket) => {
    socket.on("data", () => {
      socket.write("È\n", () => socket.resetAndDestroy());
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  await using watch = await startWatch({ hostname: "127.0.0.1", port });
  using client = await Deno.connect(watch.address);
  assert.equal(await ask(client, "è\n"), "È\n");
  const read = within(10, readAll(client));
  await assert.rejects(read, Deno.errors.ConnectionReset);
  await watch.script.stdoutMatch(/ <-+ RST -+ reset\n.* the server broke off/);
  server.close();
});

Deno.test("watch - a client that never reads costs less than 10 MB, and the line says so", async () => {
  let sent = 0;
  await using server = serveHere(async (socket) => {
    await socket.read(new Uint8Array(9));
    while (sent < 100_000_000) {
      sent += await socket.write(new Uint8Array(65536));
    }
  });
  await using watch = await startWatch(server.address);
  using client = await Deno.connect(watch.address);
  await writeText(client, "a\n");
  await watch.script.stdoutMatch(/ silence: the client does not read; /);
  assert.ok(sent < 10_000_000, `the server could send ${sent} bytes`);
});

Deno.test("watch - two clients at once, each with its number and its bytes", async () => {
  await using server = await startServer();
  await using watch = await startWatch(server.address);
  using first = await Deno.connect(watch.address);
  await watch.script.stdoutMatch(/^#1 .*accept/m);
  expectUpper(await exchange(watch.address, TEXT));
  assert.equal(await ask(first, "è\n"), "È\n");
  await watch.script.stdoutMatch(/^#2 .* "PERCHÉ [^]*^#1 .* "È\\n"$/m);
});

Deno.test("watch - says once who waits for whom, and nothing of a client that still thinks", async () => {
  const over = Promise.withResolvers<void>();
  await using server = serveHere(async (socket) => {
    const line = new Uint8Array(100);
    const said = Buffer.from(line.subarray(0, (await socket.read(line))!));
    if (`${said}` !== "no answer\n") await socket.write(said);
    if (`${said}` === "close\n") await socket.closeWrite();
    await over.promise;
  });
  using clients = new DisposableStack();
  clients.defer(over.resolve);
  await using watch = await startWatch(server.address);
  const connect = async () => clients.use(await Deno.connect(watch.address));
  await connect();
  const second = await connect();
  assert.equal(await ask(second, "half-close\n"), "half-close\n");
  await second.closeWrite();
  assert.equal(await ask(await connect(), "ciao\n"), "ciao\n");
  await writeText(await connect(), "no answer\n");
  const last = await connect();
  await writeText(last, "close\n");
  await readAll(last);
  await writeText(last, "more\n");
  await watch.script.stdoutMatch(/^#5 .* silence: /m);
  await pause(3500); // no event ends this wait: a second line would come now
  assert.deepEqual(
    watch.script.stdout.match(/^.* silence: .*$/gm)!
      .map((line) => line.replace(/ +[0-9.]+ silence:/, "")).toSorted(),
    [
      "#2 the client has sent its FIN; the server has not closed",
      "#3 the server has answered; the client has sent no FIN",
      "#4 the server does not answer; is it busy with #1?",
      "#5 the server has closed; the client goes on (no FIN)",
    ],
  );
});

Deno.test("watch - a server that does not answer its only client: the line says so", async () => {
  await using server = serveHere((socket) => readAll(socket));
  await using watch = await startWatch(server.address);
  using client = await Deno.connect(watch.address);
  await writeText(client, "ciao\n");
  await watch.script.stdoutMatch(
    / silence: the server does not answer; the client has sent no FIN$/m,
  );
});

Deno.test("watch - no server: the client is let go, and the line says what to do", async () => {
  const port = freePort();
  await using watch = await startWatch({ hostname: "127.0.0.1", port });
  using client = await Deno.connect(watch.address);
  const reply = await within(10, readAll(client));
  assert.equal(reply?.length, 0, "the client is not let go");
  await watch.script.stdoutMatch(
    new RegExp(`nothing listens on port ${port}: start the server first`),
  );
});

Deno.test({
  name: "watch - a server's machine that does not answer: the line says so",
  ignore: Deno.build.os !== "linux", // others refuse what the queue cannot take
  async fn() {
    const hostname = "127.0.0.1";
    using queue = Deno.listen({ hostname, port: 0, tcpBacklog: 1 });
    await using watch = await startWatch({ hostname, port: queue.addr.port });
    using _first = await Deno.connect(watch.address);
    using _second = await Deno.connect(watch.address);
    await watch.script.stdoutMatch(/^#2 .* accept\(\)$/m);
    using _third = await Deno.connect(watch.address);
    await watch.script.stdoutMatch(
      /^#3 .* silence: the server's machine does not answer$/m,
    );
  },
});

Deno.test("watch - whatever is sent, and by client 1000, no line is wider than 80 columns", async () => {
  await using server = await startServer();
  await using watch = await startWatch(server.address);
  for (let client = 1; client < 1000; client++) {
    await talk(watch.address, "");
  }
  await watch.script.stdoutMatch(/^#999 .* close\(\)$/m);
  const texts: [sent: string | Uint8Array<ArrayBuffer>, shown: string][] = [
    ['ciao, "è"\t\\\r\n', '"CIAO, \\"È\\"\\t"...'],
    [Uint8Array.of(0x31, 0xff, 0x0a), '"1\\xff\\n"'],
    ["😀".repeat(40), '"😀😀😀😀😀😀😀"...'],
  ];
  for (const [sent, shown] of texts) {
    const bytes = await new Response(sent).bytes();
    await exchange(watch.address, bytes);
    const pattern = `^#1[0-9]{3} .* ${RegExp.escape(shown)}$`;
    await watch.script.stdoutMatch(new RegExp(pattern, "m"));
  }
  for (const line of watch.script.stdout.split("\n")) {
    const wide = line.match(/😀/gu)?.length ?? 0;
    assert.ok([...line].length + wide <= 80, line);
  }
});

Deno.test({
  name:
    "watch - small packets do not wait on either side: TCP_NODELAY (strace)",
  ignore: !has("strace"),
  async fn() {
    const wrapper = ["strace", "-D", "-f", "-e", "trace=setsockopt"];
    await using server = await startServer();
    await using watch = await startWatch(server.address, { wrapper });
    assert.equal(await talk(watch.address, "è\n"), "È\n");
    watch.script.kill();
    const { stderr } = await watch.script.exit();
    const set = stderr.match(/TCP_NODELAY, \[1\]/g) ?? [];
    assert.equal(set.length, 2, "a small packet may wait");
  },
});

Deno.test({
  name: "watch - a picture that nobody reads stops nobody; Ctrl-C counts",
  ignore: windows,
  async fn() {
    await using server = await startServer();
    const shell =
      'exec 3<&0; exec "$@" > >(read -r; echo "$REPLY"; read -u 3; cat)';
    const wrapper = ["bash", "-c", shell, "bash"];
    await using watch = await startWatch(server.address, { wrapper });
    for (let client = 0; client < 500; client++) {
      const reply = await within(5, talk(watch.address, "è\n"));
      assert.equal(reply, "È\n", "watch waits for the picture's reader");
    }
    await watch.script.write("\n");
    await watch.script.stdoutMatch(/#2 /);
    assert.equal(await talk(watch.address, "è\n"), "È\n");
    await watch.script.stdoutMatch(/^[0-9,]+ lines lost$/m);
    watch.script.kill("SIGINT");
    const { code, stdout } = await watch.script.exit();
    assert.match(stdout, /^501 connections, 3,006 bytes$/m);
    assert.equal(code, 0);
  },
});

Deno.test({
  name: "watch - on a terminal each side has a colour, NO_COLOR none (python3)",
  ignore: windows || !has("python3"),
  async fn() {
    await using server = await startServer();
    for (const [NO_COLOR, colours] of [["", true], ["1", false]] as const) {
      const options = { wrapper: TERMINAL, env: { NO_COLOR } };
      const command = [Deno.execPath(), "run", "--allow-net", WATCH];
      await using script = Script.command(
        [...command, "--port=0", `--to=${server.address.port}`],
        options,
      );
      const [, port] = await script.stdoutMatch(/:([0-9]+)\r\n/);
      await talk({ hostname: "127.0.0.1", port: Number(port) }, "è\n");
      await script.stdoutMatch(/close\(\)/);
      assert.equal(script.stdout.includes("\x1b[36m"), colours);
      assert.equal(script.stdout.includes("\x1b[33m"), colours);
    }
  },
});

Deno.test("watch - a port in use is one line, exit code 1", async () => {
  await using server = await startServer();
  const args = [`--port=${server.address.port}`];
  const exit = await run(Script.start(WATCH, { args }));
  const stderr = /^watch: cannot listen on 127\.0\.0\.1:[0-9]+: .*in use.*\n$/;
  expectExit(exit, { code: 1, stdout: "", stderr });
});
