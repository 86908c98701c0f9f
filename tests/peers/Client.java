// SPDX-License-Identifier: 0BSD

import java.io.IOException;
import java.net.InetAddress;
import java.net.Socket;

/**
 * A client in Java: it sends its whole input, closes its sending side, and then
 * prints the reply to the end.
 *
 * <pre>java tests/peers/Client.java PORT</pre>
 */
class Client {
  public static void main(String[] args) throws IOException {
    InetAddress address = InetAddress.getByName("127.0.0.1");
    try (Socket clientSocket = new Socket(address, Integer.parseInt(args[0]))) {
      System.in.transferTo(clientSocket.getOutputStream());
      clientSocket.shutdownOutput();
      clientSocket.getInputStream().transferTo(System.out);
      System.out.flush();
    }
  }
}
