// Command kube is the part of a Kubernetes cluster that the real tests need,
// in one program, so that one build and one module cache serve all of it.
//
// The first argument names the component; the rest are that component's own
// arguments, unchanged.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// components builds each command only when it is asked for: their
// constructors register flags and metrics that clash with one another.
var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"kubelet":                 newKubeletCommand,
}

func main() {
	if len(os.Args) < 2 {
		fail("usage: kube {etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl|kubelet} [argument...]")
	}
	name := os.Args[1]
	// The commands read os.Args themselves, kubectl even before cobra does.
	os.Args = append([]string{name}, os.Args[2:]...)

	if name == "etcd" {
		etcdmain.Main(os.Args)
		return
	}
	build, known := components[name]
	if !known {
		fail("unknown component " + name)
	}
	os.Exit(cli.Run(build()))
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}
