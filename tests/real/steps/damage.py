"""Exposure and destruction."""

from objects import obj, service
from steps.base import Step, created, event, ran

DAMAGE = [
    Step("service on every node", created(service("shell", "shop", type="NodePort")),
         event("services", "create", 201, "shell", "shop"), ("node port service", "service created")),
    Step("ingress without TLS",
         created(obj("Ingress", "plain", "shop", "networking.k8s.io/v1", spec={
             "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}})),
         event("ingresses", "create", 201, "plain", "shop"), ("ingress without TLS",)),
    Step("DNS configuration changed",
         ran("mallory", "patch", "configmap", "coredns", "-n", "kube-system", "-p",
             '{"data":{"Corefile":".:53 {\\n forward . 203.0.113.53\\n}\\n"}}'),
         event("configmaps", "patch", 200, "coredns", "kube-system", "mallory"), ("DNS configuration changed",)),
    Step("network policy deleted", ran("mallory", "delete", "networkpolicy", "default-deny", "-n", "shop"),
         event("networkpolicies", "delete", 200, "default-deny", "shop"), ("network policy deleted",)),
    Step("quota deleted", ran("mallory", "delete", "resourcequota", "team", "-n", "shop"),
         event("resourcequotas", "delete", 200, "team", "shop"), ("limits removed",)),
    Step("events deleted", ran("mallory", "delete", "--raw", "/api/v1/namespaces/shop/events"),
         event("events", "deletecollection", 200, namespace="shop", user="mallory"), ("events deleted",)),
    Step("secret deleted", ran("mallory", "delete", "secret", "stock-forever", "-n", "shop"),
         event("secrets", "delete", 200, "stock-forever", "shop"), ("secret changed",)),
    Step("deployment deleted", ran("mallory", "delete", "deployment", "quiet", "-n", "lab"),
         event("deployments", "delete", 200, "quiet", "lab"), ("workload deleted",)),
    Step("DNS deleted", ran("mallory", "delete", "deployment", "coredns", "-n", "kube-system"),
         event("deployments", "delete", 200, "coredns", "kube-system"), ("system workload deleted",)),
    Step("namespace deleted", ran("mallory", "delete", "namespace", "lab", "--wait=false"),
         event("namespaces", "delete", 200, "lab", user="mallory"), ("namespace deleted",)),
    # The last step, because it disturbs whoever asks what the API has.
    Step("part of the API handed to another server",
         created(obj("APIService", "v1.stolen.example.com", None, "apiregistration.k8s.io/v1", spec={
             "group": "stolen.example.com", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10,
             "insecureSkipTLSVerify": True, "service": {"name": "web", "namespace": "shop"}})),
         event("apiservices", "create", 201, "v1.stolen.example.com"), ("API service changed",)),
]
