package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"
)

// nginxConfig has the buffer with which nginx is at its best; the stock one is ten times slower.
var nginxConfig = template.Must(template.New("nginx.conf").Parse(`
daemon off;
worker_processes auto;
pid {{.Folder}}/nginx.pid;
error_log {{.Folder}}/error.log;
include /etc/nginx/modules-enabled/*mail*.conf;
events { worker_connections {{.Connections}}; }
mail {
    server_name mx.example.org;
    auth_http http://{{.Resolver}}/;
    proxy_pass_error_message on;
    proxy_buffer 64k;
    server {
        listen {{.Listen}};
        protocol smtp;
        smtp_auth none;
        smtp_capabilities PIPELINING "SIZE 104857600" 8BITMIME;
        xclient off;
    }
}
`))

// nginxCommand runs nginx with a server beside it that names the sink for every client, as nginx wants it.
func nginxCommand(b *bench, folder string, addr netip.AddrPort) ([]string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	sink := b.sink.Addr()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Auth-Status", "OK")
		w.Header().Set("Auth-Server", sink.Addr().String())
		w.Header().Set("Auth-Port", fmt.Sprint(sink.Port()))
	})}
	b.helpers.Go(func() { server.Serve(l) })
	b.atEnd = append(b.atEnd, func() { server.Close() })
	s := b.settings(folder, addr)
	s.Resolver = l.Addr().String()
	file := filepath.Join(folder, "nginx.conf")
	if err := os.MkdirAll(filepath.Join(folder, "logs"), 0o700); err != nil {
		return nil, err
	}
	return []string{"-p", folder, "-c", file, "-e", filepath.Join(folder, "error.log")}, writeConfig(file, nginxConfig, s, "")
}
