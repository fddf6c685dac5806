package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	protocols "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/kubelet/pkg/cri/streaming/portforward"
	streams "k8s.io/kubelet/pkg/cri/streaming/remotecommand"
)

const (
	streamIdleTimeout     = 30 * time.Second
	streamCreationTimeout = 10 * time.Second
)

// serveStreams answers exec, attach, port-forward and logs on loopback, for
// holders of a client certificate. Nothing is executed: an exec answers with
// the words it was given.
func serveStreams(port int, certFile, keyFile, clientCAFile string) error {
	authority, err := os.ReadFile(clientCAFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return errors.New("failed to read a certificate from " + clientCAFile)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", serveExec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", serveAttach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", servePortForward)
	mux.HandleFunc("/containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "nothing runs here")
	})
	server := &http.Server{
		Addr:              fmt.Sprintf("127.0.0.1:%d", port),
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12},
		// Stream upgrades hijack the connection, which HTTP/2 cannot.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	return server.ListenAndServeTLS(certFile, keyFile)
}

func serveExec(w http.ResponseWriter, r *http.Request) {
	options, err := streams.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	streams.ServeExec(w, r, puppet{}, r.PathValue("pod"), "", r.PathValue("container"), r.Form["command"],
		options, streamIdleTimeout, streamCreationTimeout, protocols.SupportedStreamingProtocols)
}

func serveAttach(w http.ResponseWriter, r *http.Request) {
	options, err := streams.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	streams.ServeAttach(w, r, puppet{}, r.PathValue("pod"), "", r.PathValue("container"),
		options, streamIdleTimeout, streamCreationTimeout, protocols.SupportedStreamingProtocols)
}

func servePortForward(w http.ResponseWriter, r *http.Request) {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, puppet{}, r.PathValue("pod"), "", options,
		streamIdleTimeout, streamCreationTimeout, portforward.SupportedProtocols)
}

// puppet stands where a container would be.
type puppet struct{}

func (puppet) ExecInContainer(_ context.Context, _ string, _ types.UID, _ string, command []string,
	_ io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if out != nil {
		fmt.Fprintln(out, "not executed:", strings.Join(command, " "))
	}
	return nil
}

func (puppet) AttachContainer(_ context.Context, _ string, _ types.UID, _ string,
	_ io.Reader, out, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	if out != nil {
		fmt.Fprintln(out, "nothing runs here")
	}
	return nil
}

func (puppet) PortForward(_ context.Context, _ string, _ types.UID, _ int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	_, err := io.WriteString(stream, "nothing listens here\n")
	return err
}

// tokenRequest asks for a token bound to the pod, as a kubelet does.
func tokenRequest(pod *core.Pod, projection *core.ServiceAccountTokenProjection) *authentication.TokenRequest {
	request := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{
		ExpirationSeconds: projection.ExpirationSeconds,
		BoundObjectRef: &authentication.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
		},
	}}
	if projection.Audience != "" {
		request.Spec.Audiences = []string{projection.Audience}
	}
	return request
}
