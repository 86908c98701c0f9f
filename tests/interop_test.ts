// SPDX-License-Identifier: 0BSD

/** `server.ts` with other people's clients, where they are installed. */

import { Script } from "../lib/parts/process.ts";
import { has } from "./machine.ts";
import { OTHER_CLIENTS } from "./other_clients.ts";
import { expectUppercase, startServer } from "./pair.ts";

const TEXT = "perché no? ß 😀\n".repeat(1000);

/** bash cannot half-close: it reads as many lines as it has sent. */
const bash = (port: number) => [
  ...["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/$0; cat >&3; head -1000 <&3"],
  `${port}`,
];

for (
  const [program, command] of Object.entries({ ...OTHER_CLIENTS, bash })
) {
  Deno.test(`server - every byte to ${program}`, {
    ignore: !has(program),
  }, async () => {
    await using server = await startServer();
    const client = Script.command(command(server.address.port));
    await expectUppercase(client, TEXT);
  });
}
