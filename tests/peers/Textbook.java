// SPDX-License-Identifier: 0BSD

import java.io.BufferedReader;
import java.io.DataOutputStream;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;

/**
 * A server as textbooks show it (Kurose and Ross, "Computer Networking", on
 * socket programming with TCP): one line, its reply, the close, one client after
 * the other. Written anew after the lecture's diagram.
 *
 * <pre>java tests/peers/Textbook.java [PORT]</pre>
 */
class Textbook {
  public static void main(String[] args) throws Exception {
    int port = args.length > 0 ? Integer.parseInt(args[0]) : 0;
    ServerSocket welcomeSocket =
        new ServerSocket(port, 50, InetAddress.getByName("127.0.0.1"));
    System.out.println("listening on 127.0.0.1:" + welcomeSocket.getLocalPort());
    while (true) {
      Socket connectionSocket = welcomeSocket.accept();
      BufferedReader inFromClient = new BufferedReader(
          new InputStreamReader(connectionSocket.getInputStream()));
      DataOutputStream outToClient =
          new DataOutputStream(connectionSocket.getOutputStream());
      String clientSentence = inFromClient.readLine();
      String capitalizedSentence = clientSentence.toUpperCase() + '\n';
      outToClient.writeBytes(capitalizedSentence);
      connectionSocket.close();
    }
  }
}
