// SPDX-License-Identifier: 0BSD

/** Three servers behind HAProxy: what README.md beside this file promises. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { Script } from "../../lib/parts/process.ts";
import { type Address, talk } from "../../lib/parts/tcp.ts";
import { freePort, has } from "../machine.ts";
import {
  ask,
  expectUppercase,
  ROOT,
  SERVER,
  type Server,
  startClient,
  startServer,
} from "../pair.ts";

const FOLDER = import.meta.dirname!;
const configuration = await Deno.readTextFile(join(FOLDER, "haproxy.cfg"));

interface Service {
  /** Where HAProxy listens. */
  address: Address;
  haproxy: Script;
  /** The servers that the configuration calls one, two and three. */
  servers: Server[];
}

/** A test with the configuration, or with one change in it. */
function test(
  name: string,
  run: (service: Service, t: Deno.TestContext) => Promise<void>,
  [before, after]: [before: string | RegExp, after: string] = ["", ""],
): void {
  Deno.test({
    name: `haproxy - ${name}`,
    ignore: !has("haproxy"),
    async fn(t) {
      await using stack = new AsyncDisposableStack();
      const servers: Server[] = [];
      while (servers.length < 3) {
        servers.push(stack.use(await startOn(freePort())));
      }
      const file = await Deno.makeTempFile({ suffix: ".cfg" });
      stack.defer(() => Deno.remove(file));
      assert.notEqual(configuration.search(before), -1);
      await Deno.writeTextFile(file, configuration.replace(before, after));

      const port = freePort();
      const [one, two, three] = servers.map(({ address }) => `${address.port}`);
      const haproxy = stack.use(
        Script.command(["haproxy", "-db", "-f", file], {
          env: { PORT: `${port}`, PORT1: one!, PORT2: two!, PORT3: three! },
        }),
      );
      // HAProxy listens before it sends the first check, which says "check\n".
      for (const { script } of servers) {
        await script.stdoutMatch(/closed, 6 bytes in, 6 bytes out/);
      }
      const address = { hostname: "127.0.0.1", port };
      await run({ address, haproxy, servers }, t);
    },
  });
}

/** Starts a server that gives up on a test that is stuck. */
function startOn(port: number): Promise<Server> {
  return startServer(["--idle-timeout", "60"], { port });
}

/** Connections that stay open, each after a line and its reply. */
async function open(address: Address, count: number): Promise<Deno.TcpConn[]> {
  const connections = [];
  for (let number = 0; number < count; number++) {
    const connection = await Deno.connect(address);
    connections.push(connection);
    assert.equal(await ask(connection, "hello, you\n"), "HELLO, YOU\n");
  }
  return connections;
}

/** Ends a server; how many of the connections of open() it had. */
async function served({ script }: Server): Promise<number> {
  script.kill();
  const { stdout } = await script.ending();
  return stdout.match(/ closed, 11 bytes in/g)?.length ?? 0;
}

function close(connections: Deno.TcpConn[]): void {
  connections.forEach((connection) => connection.close());
}

/** Twelve new clients, one after the other, are all answered. */
async function expectAnswers(address: Address): Promise<void> {
  for (let number = 1; number <= 12; number++) {
    assert.equal(await talk(address, `new ${number}\n`), `NEW ${number}\n`);
  }
}

test(
  "every byte comes through, after a half-close too",
  async ({ address }, t) => {
    await t.step("to client.ts", async () => {
      await using client = startClient(address);
      await expectUppercase(client, "perché no? ".repeat(500_000));
    });

    await t.step("to the checks for any such service", async () => {
      const args = ["--port", `${address.port}`, "--strict"];
      await using checks = Script.start(join(ROOT, "lib/conformance.ts"), {
        args,
      });
      const { code, stdout } = await checks.ending();
      assert.equal(code, 0, `a promise was not kept:\n${stdout}`);
    });
  },
);

test("connections are spread over all servers, checks leave no reset", async ({ address, servers }) => {
  close(await open(address, 30));
  assert.deepEqual(await Promise.all(servers.map(served)), [10, 10, 10]);
  for (const { script } of servers) {
    assert.doesNotMatch(script.stdout, /reset by peer/);
  }
});

// Its checks never find out, so that only "redispatch" can help new clients.
test(
  "a killed server costs its own connections and no others",
  async ({ address, servers: [, two] }) => {
    const connections = await open(address, 9);
    two!.script.kill("SIGKILL");
    await two!.script.ending();

    let kept = 0;
    for (const connection of connections) {
      const reply = await ask(connection, "still here\n").catch(() => ""); // a reset
      if (reply === "STILL HERE\n") kept += 1;
    }
    assert.equal(kept, 6, "the killed server had a third of them");
    await expectAnswers(address);
    close(connections);
  },
  ["inter 1s", "$& fall 1000"],
);

// Checks come twice as often, so that nobody waits for this test.
test(
  "a server that does not answer is left out, until it does",
  async ({ address, haproxy, servers: [, two] }) => {
    two!.script.kill("SIGSTOP"); // the system still accepts for it
    await haproxy.stderrMatch(/uppercase\/two is DOWN/);
    await expectAnswers(address);

    two!.script.kill("SIGKILL");
    await two!.script.ending();
    await using again = await startOn(two!.address.port);
    await haproxy.stderrMatch(/uppercase\/two is UP/);
    close(await open(address, 3));
    assert.equal(await served(again), 1, "started again, it is used again");
  },
  ["inter 1s", "inter 500ms"],
);

test(
  "when all servers are full, clients wait for a place",
  async ({ address }) => {
    const connections = await open(address, 6);
    let answered = 0;
    const waiting = [1, 2, 3, 4].map(async (number) => {
      const reply = await talk(address, `${number}\n`);
      answered += 1;
      return reply;
    });
    for (const connection of connections) {
      assert.equal(await ask(connection, "busy\n"), "BUSY\n");
    }
    assert.equal(answered, 0, "there was no place yet");
    connections.shift()!.close();
    assert.deepEqual(await Promise.all(waiting), ["1\n", "2\n", "3\n", "4\n"]);
    close(connections);
  },
  ["maxconn 990", "maxconn 2"],
);

const readme = await Deno.readTextFile(join(FOLDER, "README.md"));
const [limit] = readme.match(/^ *stick-table .*\n( *tcp-request .*\n)+/m)!;
test("README.md's limit for an address", async ({ address }) => {
  const connections = await open(address, 20);
  assert.equal(await talk(address, "me too\n").catch(() => ""), "");
  connections.shift()!.close();
  let reply = "";
  while (reply !== "AGAIN\n") { // HAProxy counts it a moment longer
    reply = await talk(address, "again\n").catch(() => "");
  }
  close(connections);
}, [/^ +bind .*\n/m, `$&${limit}`]);

test("the PROXY header comes back as text", async ({ address }) => {
  assert.match(
    await talk(address, "hello\n"),
    /^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\nHELLO\n$/,
  );
}, ["default-server", "$& send-proxy"]);

Deno.test("haproxy - the configuration fits the limits of server.ts", async () => {
  await using script = Script.start(SERVER, { args: ["--help"] });
  const { stdout: help } = await script.ending();
  const limit = (option: string) =>
    Number(help.match(new RegExp(`${option} [^]*?default ([0-9]+)`))![1]);
  const timeouts = configuration.match(/(?<=timeout (client|server).* )\d+/g)!;
  assert.equal(timeouts.length, 4);
  for (const seconds of timeouts) {
    assert.ok(Number(seconds) > limit("--idle-timeout"), "the server's clock");
  }
  const [all, each] = configuration.match(/(?<=maxconn )\d+/g)!.map(Number);
  assert.ok(each! < limit("--max-connections"), "the check needs a place");
  assert.ok(all! > 3 * each!, "three full servers are not filled");
});
