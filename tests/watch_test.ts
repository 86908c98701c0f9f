// SPDX-License-Identifier: 0BSD

/** `lib/watch.ts` between programs that are not ours, and what it draws of them. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { listening, run, Script, type Server } from "../lib/parts/process.ts";
import { type Address, format, reset } from "../lib/parts/tcp.ts";
import { within } from "../lib/parts/waits.ts";
import { freePort, has } from "./machine.ts";
import { OTHER_CLIENTS } from "./other_clients.ts";
import {
  expectExit,
  expectSame,
  expectUppercase,
  ROOT,
  startServer,
  TEXT,
  UPPER,
} from "./pair.ts";
import {
  ask,
  exchange,
  readAll,
  resetHere,
  serveHere,
  talk,
  texts,
  writeText,
} from "./sockets.ts";

const WATCH = join(ROOT, "lib", "watch.ts");

/** Watches a server on a free port. */
function startWatch(to: Address, ...options: string[]): Promise<Server> {
  const args = ["--port=0", `--to=${format(to)}`];
  const permissions = ["--allow-net", ...options];
  return listening(Script.start(WATCH, { args, permissions }));
}

for (const [program, command] of Object.entries(OTHER_CLIENTS)) {
  Deno.test({
    name: `watch - 3 MB from ${program}, its end, and 3 MB after it`,
    ignore: !has(program),
    async fn() {
      await using server = serveHere(async (socket) => {
        const text = Buffer.from(await readAll(socket)).toString();
        await writeText(socket, text.toUpperCase());
      });
      await using watch = await startWatch(server.address);
      const client = Script.command(command(watch.address.port));
      await expectUppercase(client, "perché no? ß 😀\r\nà\n".repeat(130_000));
      await watch.script.stdoutMatch(
        /^#1 .* sends no more +--- FIN: active close ---->\n(#1 .* bytes .*\n)+#1 .* <-+ FIN -+ close\(\)$/m,
      );
    },
  });
}

Deno.test("watch - a server that closes first, after one reply", async () => {
  await using server = serveHere(async (socket) => {
    for await (const text of texts(socket)) {
      return await writeText(socket, text.toUpperCase());
    }
  });
  await using watch = await startWatch(server.address);
  {
    using client = await Deno.connect(watch.address);
    assert.equal(await ask(client, "ciao\n"), "CIAO\n");
    assert.equal((await readAll(client)).length, 0);
  }
  await watch.script.stdoutMatch(
    /passive open.*\n.* connect\(\) .* active open .* accept\(\)\n.* "ciao\\n" [^]* <-+ FIN: active close -+ close\(\)\n.* sends no more +-+ FIN -+>\n/,
  );
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
    const answer = () => socket.write("È\n", () => socket.resetAndDestroy());
    socket.on("data", answer);
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

Deno.test("watch - a server that resets at once broke off, and nobody has to start it", async () => {
  await using server = await resetHere("connect");
  await using watch = await startWatch(server.address);
  // The reset comes before connect() has ended, or after it.
  for (let client = 1; client <= 100; client++) {
    await reset(watch.address, (_send, reply) => reply);
    await watch.script.stdoutMatch(
      new RegExp(
        `^#${client} .* accept\\(\\)\n.* RST .*\n.* the server broke off`,
        "m",
      ),
    );
  }
  assert.doesNotMatch(watch.script.stdout, /start it first/);
});

Deno.test("watch - a Deno that cannot reset closes the other side, and says so", async () => {
  const closed = Promise.withResolvers<Uint8Array>();
  await using server = serveHere(async (socket) => {
    await writeText(socket, "hello\n");
    closed.resolve(await readAll(socket));
  });
  const older = 'data:text/javascript,import { Socket } from "node:net";' +
    "delete Socket.prototype.resetAndDestroy;";
  await using watch = await startWatch(server.address, `--preload=${older}`);
  await reset(watch.address, (_send, reply) => reply);
  assert.equal((await within(10, closed.promise))?.length, 0);
  await reset(watch.address, (_send, reply) => reply); // it still runs
  await watch.script.stdoutMatch(/ as a close$[^]*^#2 .* client broke off/m);
});

Deno.test("watch - cannot listen: one line, exit code 1", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  for (const permissions of [["--allow-net"], []]) {
    const args = [`--port=${taken.addr.port}`];
    const exit = await run(Script.start(WATCH, { args, permissions }));
    const stderr = /^watch: cannot listen on 127\.0\.0\.1:[0-9]+: .*\n$/;
    expectExit(exit, { code: 1, stdout: "", stderr });
  }
});

Deno.test({
  name: "watch - a server may have the same port at another address",
  ignore: Deno.build.os !== "linux", // others have no 127.0.0.2
  async fn() {
    const hostname = "127.0.0.2";
    const port = freePort();
    await using _server = await startServer([
      `--hostname=${hostname}`,
      `--port=${port}`,
    ]);
    const args = [`--port=${port}`, `--to=${hostname}:${port}`];
    await using watch = await listening(Script.start(WATCH, { args }));
    assert.equal(await talk(watch.address, "è\n"), "È\n");
  },
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
  expectSame(await exchange(watch.address, TEXT), UPPER);
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
  await writeText(await connect(), "no answer\n");
  await connect();
  const third = await connect();
  assert.equal(await ask(third, "half-close\n"), "half-close\n");
  await third.closeWrite();
  assert.equal(await ask(await connect(), "ciao\n"), "ciao\n");
  await writeText(await connect(), "no answer\n");
  const last = await connect();
  await writeText(last, "close\n");
  await readAll(last);
  await writeText(last, "more\n");
  await watch.script.stdoutMatch(/^#6 .* silence: /m);
  await pause(3500); // no event ends this wait: a second line would come now
  assert.deepEqual(
    watch.script.stdout.match(/^.* silence: .*$/gm)!
      .map((line) => line.replace(/ +[0-9.]+ silence:/, "")).toSorted(),
    [
      "#1 the server does not answer; the client has sent no FIN",
      "#3 the client has sent its FIN; the server has not closed",
      "#4 the server has answered; the client has sent no FIN",
      "#5 the server does not answer; is it busy with #1?",
      "#6 the server has closed; the client goes on (no FIN)",
    ],
  );
});

Deno.test("watch - no server: the client is let go, and the line says what to do", async () => {
  const port = freePort();
  await using watch = await startWatch({ hostname: "127.0.0.1", port });
  using client = await Deno.connect(watch.address);
  const reply = await within(10, readAll(client));
  assert.equal(reply?.length, 0, "the client is not let go");
  await watch.script.stdoutMatch(/ no server at 127\S+: start it first$/m);
});

Deno.test({
  name: "watch - a server's machine that does not answer: the line says so",
  ignore: Deno.build.os !== "linux", // others refuse what the queue cannot take
  async fn() {
    const hostname = "127.0.0.1";
    using queue = Deno.listen({ hostname, port: 0, tcpBacklog: 1 });
    await using watch = await startWatch({ hostname, port: queue.addr.port });
    using clients = new DisposableStack();
    for (let client = 0; client < 3; client++) {
      clients.use(await Deno.connect(watch.address));
    }
    await watch.script.stdoutMatch(/ the server's machine does not answer$/m);
  },
});

Deno.test("watch - whatever is sent, no line is wider than 80 columns", async () => {
  await using server = await startServer();
  await using watch = await startWatch(server.address);
  const shown = {
    'ciao, "è"\t\\\r\n': '"CIAO, \\"È\\"\\t"...',
    "\x9b1m\n": '"\\u{9b}1M\\n"',
    ["世✨😀".repeat(20)]: '"世✨😀世✨😀世"...',
  };
  for (const [sent, text] of Object.entries(shown)) {
    await talk(watch.address, sent);
    await watch.script.stdoutMatch(new RegExp(` ${RegExp.escape(text)}$`, "m"));
  }
  for (const line of watch.script.stdout.split("\n")) {
    const wide = line.match(/[世✨😀]/gu)?.length ?? 0;
    assert.ok([...line].length + wide <= 80, line);
  }
});

Deno.test("watch - a line written in two parts does not wait for an ACK, and is drawn as one", async () => {
  const writeTwice = async (socket: Deno.TcpConn) => {
    socket.setNoDelay();
    await writeText(socket, "1");
    await pause(1); // else watch may read both at once
    await writeText(socket, "\n");
  };
  await using server = serveHere(async (socket) => {
    for await (const text of texts(socket)) {
      if (text.endsWith("\n")) await writeTwice(socket);
    }
  });
  await using watch = await startWatch(server.address);
  using client = await Deno.connect(watch.address);
  for (let round = 0; round < 50; round++) {
    await Promise.all([ask(client, ""), writeTwice(client)]);
  }
  // The second part comes 40 ms later, and alone, if it waits for an ACK. On a busy
  // machine some are late without that.
  const [picture] = await watch.script.stdoutMatch(/^(.*\n){106}/);
  for (const arrow of [" 2 bytes -+>", "<-+ 2 bytes "]) {
    const whole = picture.match(new RegExp(arrow, "g")) ?? [];
    assert.ok(whole.length >= 10, picture);
  }
});
