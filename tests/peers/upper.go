// SPDX-License-Identifier: 0BSD

// A goroutine for each client, bytes.ToUpper on whole characters.
package main

import (
	"bytes"
	"fmt"
	"log"
	"net"
	"os"
	"unicode/utf8"
)

func serve(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 64*1024)
	begun := 0 // bytes at the front of a character that is not whole yet
	for {
		count, err := conn.Read(buffer[begun:])
		text := buffer[:begun+count]
		end := len(text)
		if err == nil {
			end -= unfinished(text)
		}
		if _, failed := conn.Write(bytes.ToUpper(text[:end])); failed != nil {
			return
		}
		if err != nil {
			return
		}
		begun = copy(buffer, text[end:])
	}
}

// unfinished says how many bytes at the end begin a character.
func unfinished(text []byte) int {
	for count := 1; count < utf8.UTFMax && count <= len(text); count++ {
		if end := text[len(text)-count:]; utf8.RuneStart(end[0]) {
			if utf8.FullRune(end) {
				return 0
			}
			return count
		}
	}
	return 0
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn)
	}
}
