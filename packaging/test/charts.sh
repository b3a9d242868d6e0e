#!/usr/bin/env bash
# The chart and the manifests: helm lint, the rendered chart against the kustomize base that ships it (`--accept` writes that), what
# values.schema.json has to refuse, and kubeconform against Kubernetes' own schemas.
source "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
cd "$root"

kubernetes_version=v1.34.2
tools=${CARGO_TARGET_DIR:-$root/target}/tools
"$root/packaging/tools/build.sh" "$tools"
chart=deploy/helm/$name
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HELM_CACHE_HOME=$work/cache HELM_CONFIG_HOME=$work/config HELM_DATA_HOME=$work/data

render() { "$tools/helm" template "$name" "$chart" --namespace "$name" "$@"; }

"$tools/helm" lint --strict --quiet "$chart"
{
    echo "# Rendered by packaging/test/charts.sh from deploy/helm; do not edit."
    # Helm does not manage what kustomize applies.
    render | sed '/app.kubernetes.io\/managed-by/d'
} >"$work/proxy.yaml"
[[ ${1:-} != --accept ]] || cp "$work/proxy.yaml" deploy/kustomize/base/proxy.yaml
diff -u deploy/kustomize/base/proxy.yaml "$work/proxy.yaml" || fail "the chart has changed: packaging/test/charts.sh --accept"

# Everything that can be switched on at once.
cat >"$work/all.yaml" <<'VALUES'
image: {digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}
encryption: {keyringRootSecret: root}
extraArgs: {on-undecryptable: fail, sweep: "off"}
podMonitor: {enabled: true, labels: {release: prometheus}}
networkPolicy: {clients: [{podSelector: {matchLabels: {app: kube-apiserver}}}], metrics: [{namespaceSelector: {}}]}
nodeSelector: {a: b}
tolerations: [{key: a, operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: high
podAnnotations: {a: b}
imagePullSecrets: [{name: pull}]
extraContainers: [{name: kms, image: kms}]
extraVolumes: [{name: kms, emptyDir: {}}]
extraVolumeMounts: [{name: kms, mountPath: /run/kmsplugin}]
VALUES
render --values "$work/all.yaml" >"$work/all-rendered.yaml"
for text in '@sha256:0000' -- '--keyring-root-file=' '--on-undecryptable=fail' 'kind: PodMonitor' 'name: kms' 'priorityClassName: high'; do
    [[ $text == -- ]] || grep -qF -e "$text" "$work/all-rendered.yaml" || fail "the chart leaves out $text"
done
! grep -qF -e --encryption-provider-config= "$work/all-rendered.yaml" || fail "the chart gives a configuration beside a root"

refused() {
    if render "$@" >"$work/out" 2>&1; then
        fail "the chart takes $*"
    fi
}
refused --set replicas=0
refused --set 'etcd.servers={http://10.0.0.1:2379}'
refused --set 'etcd.servers=null'
refused --set etcd.tlsSecret=
refused --set encryption.configSecret=
refused --set extraArgs.listen-client-urls=http://0.0.0.0:1
refused --set image.digest=sha256:short
refused --set imagee.tag=1

# Kubernetes' own schemas, from its module.
go=$("$root/tests/go.sh")
kubernetes=$(cd "$work" && "$go" mod download -json "k8s.io/kubernetes@$kubernetes_version" | jq -r .Dir)
packaging/test/schemas.py "$kubernetes/api/openapi-spec/swagger.json" "$work/schemas" \
    Pod Job CronJob Deployment Service PodDisruptionBudget NetworkPolicy
conforms() {
    "$tools/kubeconform" -strict -skip PodMonitor -schema-location "$work/schemas/{{.ResourceKind}}{{.KindSuffix}}.json" "$@"
}
manifests=(deploy/kubeadm/*.yaml deploy/rke2/*.yaml deploy/jobs/*.yaml deploy/prometheus/podmonitor.yaml)
conforms -summary "${manifests[@]}" "$work/proxy.yaml" "$work/all-rendered.yaml"
# A field that is misspelt would do nothing, and nobody would be told.
sed 's/hostNetwork:/hostnetwork:/' deploy/kubeadm/etcd-encryption-proxy.yaml >"$work/misspelt.yaml"
! conforms "$work/misspelt.yaml" >/dev/null || fail "kubeconform takes a field that Kubernetes does not know"
log "the chart and its manifests are in order"
