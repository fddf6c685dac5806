package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	heartbeatInterval = 10 * time.Second
	startDelay        = 500 * time.Millisecond
)

// kubelet is a node that runs nothing: it registers itself, says of every pod
// bound to it that it runs, and talks to the API server as a node does while
// it starts one, so that the audit log looks like that of a working cluster.
type kubelet struct {
	node     string
	port     int
	tokenDir string
	client   kubernetes.Interface
	seen     map[types.UID]bool // pods that were started; used by one goroutine
}

func newKubeletCommand() *cobra.Command {
	var kubeconfig, node, certFile, keyFile, clientCAFile, tokenDir string
	var port int
	command := &cobra.Command{
		Use:          "kubelet",
		Short:        "a node whose pods run in name only",
		SilenceUsage: true,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			config.QPS, config.Burst = 50, 100
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			k := &kubelet{node: node, port: port, tokenDir: tokenDir, client: client, seen: map[types.UID]bool{}}
			failed := make(chan error, 1)
			go func() { failed <- serveStreams(port, certFile, keyFile, clientCAFile) }()
			go func() { failed <- k.run(command.Context()) }()
			return <-failed
		},
	}
	flags := command.Flags()
	flags.StringVar(&kubeconfig, "kubeconfig", "", "credentials of the node")
	flags.StringVar(&node, "node-name", "", "name of the node")
	flags.IntVar(&port, "port", 0, "loopback port for exec, attach, port-forward and logs")
	flags.StringVar(&certFile, "tls-cert-file", "", "serving certificate")
	flags.StringVar(&keyFile, "tls-private-key-file", "", "serving key")
	flags.StringVar(&tokenDir, "pod-token-dir", "", "where the tokens of pods go, as NAMESPACE.POD")
	flags.StringVar(&clientCAFile, "client-ca-file", "", "authority of the API server's client certificate")
	return command
}

func (k *kubelet) run(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		err := k.register(ctx)
		if err == nil {
			break
		}
		if attempt == 60 {
			return fmt.Errorf("failed to register the node: %w", err)
		}
		time.Sleep(time.Second)
	}
	go k.heartbeat(ctx)

	factory := informers.NewSharedInformerFactoryWithOptions(k.client, 0,
		informers.WithTweakListOptions(func(options *meta.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", k.node).String()
		}))
	pods := factory.Core().V1().Pods().Informer()
	// One handler is called by one goroutine, so pods are worked on in order.
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { k.sync(ctx, object.(*core.Pod)) },
		UpdateFunc: func(_, object any) { k.sync(ctx, object.(*core.Pod)) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	return nil
}

func (k *kubelet) register(ctx context.Context) error {
	capacity := core.ResourceList{
		core.ResourceCPU:              resource.MustParse("16"),
		core.ResourceMemory:           resource.MustParse("64Gi"),
		core.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		core.ResourcePods:             resource.MustParse("250"),
	}
	now := meta.Now()
	node := &core.Node{
		ObjectMeta: meta.ObjectMeta{Name: k.node, Labels: map[string]string{
			core.LabelHostname: k.node, core.LabelOSStable: "linux", core.LabelArchStable: "amd64",
		}},
		Status: core.NodeStatus{
			Capacity:    capacity,
			Allocatable: capacity,
			Addresses:   []core.NodeAddress{{Type: core.NodeInternalIP, Address: "127.0.0.1"}},
			DaemonEndpoints: core.NodeDaemonEndpoints{
				KubeletEndpoint: core.DaemonEndpoint{Port: int32(k.port)},
			},
			Conditions: []core.NodeCondition{{
				Type: core.NodeReady, Status: core.ConditionTrue, Reason: "KubeletReady",
				LastHeartbeatTime: now, LastTransitionTime: now,
			}},
			NodeInfo: core.NodeSystemInfo{KubeletVersion: "v1.35.4", OperatingSystem: "linux", Architecture: "amd64"},
		},
	}
	_, err := k.client.CoreV1().Nodes().Create(ctx, node, meta.CreateOptions{})
	return err
}

// heartbeat renews the node's lease and status as a kubelet does.
func (k *kubelet) heartbeat(ctx context.Context) {
	leases := k.client.CoordinationV1().Leases(core.NamespaceNodeLease)
	seconds := int32(40)
	lease := &coordination.Lease{
		ObjectMeta: meta.ObjectMeta{Name: k.node},
		Spec:       coordination.LeaseSpec{HolderIdentity: &k.node, LeaseDurationSeconds: &seconds},
	}
	for ctx.Err() == nil {
		now := meta.NowMicro()
		lease.Spec.RenewTime = &now
		renewed, err := leases.Update(ctx, lease, meta.UpdateOptions{})
		if err != nil {
			renewed, err = leases.Create(ctx, lease, meta.CreateOptions{})
		}
		if err == nil {
			lease = renewed
		}
		status := map[string]any{"status": map[string]any{"conditions": []core.NodeCondition{{
			Type: core.NodeReady, Status: core.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: meta.Now(),
		}}}}
		k.log("node status", patchStatus(status, func(patch []byte) error {
			_, err := k.client.CoreV1().Nodes().PatchStatus(ctx, k.node, patch)
			return err
		}))
		time.Sleep(heartbeatInterval)
	}
}

// sync brings one pod to the next phase of its life.
func (k *kubelet) sync(ctx context.Context, pod *core.Pod) {
	switch {
	case pod.DeletionTimestamp != nil:
		delete(k.seen, pod.UID)
		if k.tokenDir != "" {
			_ = os.Remove(k.tokenFile(pod)) // it may never have had one
		}
		k.log("pod deletion", k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, meta.DeleteOptions{
			GracePeriodSeconds: new(int64),
			Preconditions:      meta.NewUIDPreconditions(string(pod.UID)),
		}))
	case !k.seen[pod.UID] && pod.Status.Phase == core.PodPending:
		k.seen[pod.UID] = true
		go k.start(ctx, pod)
	}
}

// start does what a kubelet does for a new pod, but for the container.
func (k *kubelet) start(ctx context.Context, pod *core.Pod) {
	// The API server allows a node what its pods need as soon as it has seen itself that they are bound there.
	time.Sleep(startDelay)
	k.fetch(ctx, pod)
	k.report(ctx, pod, core.PodRunning)
	if pod.Spec.RestartPolicy != core.RestartPolicyAlways {
		time.Sleep(startDelay)
		k.report(ctx, pod, core.PodSucceeded)
	}
	k.event(ctx, pod)
}

// fetch asks for what a kubelet needs before it starts a pod: a token for its
// service account and the Secrets and ConfigMaps the pod mounts.
func (k *kubelet) fetch(ctx context.Context, pod *core.Pod) {
	for _, volume := range pod.Spec.Volumes {
		if volume.Projected != nil {
			for _, source := range volume.Projected.Sources {
				if source.ServiceAccountToken != nil {
					k.requestToken(ctx, pod, source.ServiceAccountToken)
				}
				if source.ConfigMap != nil {
					k.fetchConfigMap(ctx, pod.Namespace, source.ConfigMap.Name)
				}
			}
		}
		if volume.Secret != nil {
			k.fetchSecret(ctx, pod.Namespace, volume.Secret.SecretName)
		}
		if volume.ConfigMap != nil {
			k.fetchConfigMap(ctx, pod.Namespace, volume.ConfigMap.Name)
		}
	}
	for _, container := range pod.Spec.Containers {
		for _, from := range container.EnvFrom {
			if from.SecretRef != nil {
				k.fetchSecret(ctx, pod.Namespace, from.SecretRef.Name)
			}
			if from.ConfigMapRef != nil {
				k.fetchConfigMap(ctx, pod.Namespace, from.ConfigMapRef.Name)
			}
		}
	}
}

func byName(name string) meta.ListOptions {
	return meta.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
}

func (k *kubelet) fetchSecret(ctx context.Context, namespace, name string) {
	_, err := k.client.CoreV1().Secrets(namespace).List(ctx, byName(name))
	k.log("secret", err)
	k.watchBriefly(func(options meta.ListOptions) (stopper, error) {
		return k.client.CoreV1().Secrets(namespace).Watch(ctx, options)
	}, name)
}

func (k *kubelet) fetchConfigMap(ctx context.Context, namespace, name string) {
	_, err := k.client.CoreV1().ConfigMaps(namespace).List(ctx, byName(name))
	k.log("configmap", err)
	k.watchBriefly(func(options meta.ListOptions) (stopper, error) {
		return k.client.CoreV1().ConfigMaps(namespace).Watch(ctx, options)
	}, name)
}

type stopper interface{ Stop() }

func (k *kubelet) watchBriefly(watch func(meta.ListOptions) (stopper, error), name string) {
	seconds := int64(20)
	options := byName(name)
	options.TimeoutSeconds = &seconds
	watcher, err := watch(options)
	k.log("watch", err)
	if err == nil {
		time.AfterFunc(time.Duration(seconds)*time.Second, watcher.Stop)
	}
}

func (k *kubelet) requestToken(ctx context.Context, pod *core.Pod, projection *core.ServiceAccountTokenProjection) {
	request := tokenRequest(pod, projection)
	answer, err := k.client.CoreV1().ServiceAccounts(pod.Namespace).
		CreateToken(ctx, pod.Spec.ServiceAccountName, request, meta.CreateOptions{})
	if err == nil && k.tokenDir != "" {
		err = os.WriteFile(k.tokenFile(pod), []byte(answer.Status.Token), 0o600)
	}
	k.log("token", err)
}

func (k *kubelet) tokenFile(pod *core.Pod) string {
	return filepath.Join(k.tokenDir, pod.Namespace+"."+pod.Name)
}

// report patches the pod's status as a kubelet does.
func (k *kubelet) report(ctx context.Context, pod *core.Pod, phase core.PodPhase) {
	now, ready := meta.Now(), core.ConditionTrue
	state := core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: now}}
	if phase == core.PodSucceeded {
		ready = core.ConditionFalse
		state = core.ContainerState{Terminated: &core.ContainerStateTerminated{
			Reason: "Completed", StartedAt: now, FinishedAt: now,
		}}
	}
	status := core.PodStatus{Phase: phase, HostIP: "127.0.0.1", PodIP: "10.244.0.9", StartTime: &now}
	for _, condition := range []core.PodConditionType{core.PodInitialized, core.PodReady, core.ContainersReady} {
		status.Conditions = append(status.Conditions, core.PodCondition{Type: condition, Status: ready, LastTransitionTime: now})
	}
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, core.ContainerStatus{
			Name: container.Name, Image: container.Image, Ready: phase == core.PodRunning, State: state,
			ImageID: "sha256:0", ContainerID: "stub://" + string(pod.UID) + "/" + container.Name,
		})
	}
	patch := map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status}
	k.log("pod status", patchStatus(patch, func(patch []byte) error {
		_, err := k.client.CoreV1().Pods(pod.Namespace).
			Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, meta.PatchOptions{}, "status")
		return err
	}))
}

func (k *kubelet) event(ctx context.Context, pod *core.Pod) {
	now := meta.Now()
	_, err := k.client.CoreV1().Events(pod.Namespace).Create(ctx, &core.Event{
		ObjectMeta: meta.ObjectMeta{GenerateName: pod.Name + ".", Namespace: pod.Namespace},
		InvolvedObject: core.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		},
		Reason: "Started", Message: "Container started", Type: core.EventTypeNormal,
		Source:         core.EventSource{Component: "kubelet", Host: k.node},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}, meta.CreateOptions{})
	k.log("event", err)
}

func patchStatus(patch any, send func([]byte) error) error {
	bytes, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	return send(bytes)
}

func (k *kubelet) log(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	}
}
