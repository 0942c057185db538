{{/* What the values may mean, but seldom do: said in the notes, one line each. */}}
{{- define "masters.warnings" -}}
{{- range list "security" "network" "groups" "disks" "operator" -}}
{{- with include (printf "masters.warn.%s" .) $ | trim }}
{{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.warn.security" -}}
{{- $weak := list -}}
{{- range $path, $of := include "masters.validate.all" . | fromYaml }}
{{- range $of.capabilities }}{{ $weak = append $weak (printf "%s: %s" $path .) }}{{ end }}
{{- range list "hostNetwork" "hostIPC" }}{{ if get $of . }}{{ $weak = append $weak (printf "%s: %s" $path .) }}{{ end }}{{ end }}
{{- end }}
{{- range $volume := .Values.extraVolumes }}
{{- range list "hostPath" "nfs" }}{{ if get $volume . }}{{ $weak = append $weak (printf "extraVolumes: %s, %s" $volume.name .) }}{{ end }}{{ end }}
{{- end }}
{{- if eq (include "masters.cache.kind" .) "hostPath" }}{{ $weak = append $weak "modelCache: hostPath" }}{{ end }}
{{- if $weak }}
- weaker than the restricted Pod Security standard, as podSecurity.allow says: {{ join "; " $weak }}. The namespace must enforce no more than `privileged` ({{ "`baseline`" }} for nfs alone).
{{- end }}
{{- with .Values.gcsFaultTolerance }}{{ if .enabled }}
- the password of Redis is an argument of Ray's processes in the head pod: whoever may exec into it, or runs on its node as root, reads it.
{{- end }}{{ end }}
{{- end }}

{{- define "masters.warn.network" -}}
{{- $policy := .Values.networkPolicy -}}
{{- if not $policy.enabled }}
- networkPolicy.enabled is false: every pod of the Kubernetes cluster reaches the job API, whose token is the only lock, and Ray's own ports, some of which have none.
{{- end }}
{{- $peers := dict "networkPolicy.clients" $policy.clients -}}
{{- range $i, $rule := $policy.extraIngress }}
{{- if $rule.from }}{{ $_ := set $peers (printf "networkPolicy.extraIngress[%d].from" $i) $rule.from }}
{{- else }}
- networkPolicy.extraIngress[{{ $i }}] names nobody in `from`: everybody, from outside too, reaches {{ ternary "its ports" "every port" (hasKey $rule "ports") }}.
{{- end }}
{{- end }}
{{- range $path, $list := $peers }}
{{- range $i, $peer := $list }}
{{- $anyPod := not (or $peer.podSelector $peer.ipBlock) }}
{{- if and $anyPod (hasKey $peer "namespaceSelector") (not $peer.namespaceSelector) }}
- {{ $path }}[{{ $i }}] is every pod of every namespace.
{{- else if and $anyPod (not (hasKey $peer "namespaceSelector")) }}
- {{ $path }}[{{ $i }}] is every pod of this namespace.
{{- else if regexMatch "/0$" (dig "ipBlock" "cidr" "" $peer) }}
- {{ $path }}[{{ $i }}] is {{ $peer.ipBlock.cidr }}, which is everybody, from outside the cluster too.
{{- end }}
{{- end }}
{{- end }}
{{- range $policy.nodeCIDRs }}
{{- if regexMatch "/0$" . }}
- networkPolicy.nodeCIDRs holds {{ . }}, which is everybody, on every port.
{{- end }}
{{- end }}
{{- range $name, $group := include "masters.groups" . | fromYaml }}
{{- if $group.hostNetwork }}
- workerGroups.{{ $name }}.hostNetwork: no network policy holds for its pods, and everything on their nodes reaches their ports.
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.warn.groups" -}}
{{- $groups := include "masters.groups" . | fromYaml -}}
{{- $pods := 1 -}}
{{- $first := dict -}}
{{- range $name, $group := $groups }}
{{- $pods = add $pods $group.maxReplicas }}
{{- $label := $group.nodeGroup | default $name }}
{{- with get $first $label }}
{{- $other := get $groups . }}
{{- $differ := list }}
{{- range list "cpus" "memoryGi" "shmGi" "gpusPerPod" }}
{{- if ne (get $group . | default 0 | float64) (get $other . | default 0 | float64) }}{{ $differ = append $differ . }}{{ end }}
{{- end }}
{{- with $differ }}
- workerGroups.{{ $name }} and .{{ get $first $label }} are both {{ $label }} but differ in {{ join ", " . }}: Ray takes the group that a task fills best, whatever its priority.
{{- end }}
{{- if eq ($group.priority | default 0 | int) ($other.priority | default 0 | int) }}
- workerGroups.{{ $name }} and .{{ . }} are both {{ $label }} and of priority {{ $group.priority | default 0 }}: Ray takes one of them by chance.
{{- end }}
{{- end }}
{{- $_ := set $first $label $name }}
{{- $image := $group.image | default $.Values.images.gpu }}
{{- $same := eq $image $.Values.images.cpu }}
{{- if and $group.gpusPerPod (or $same (hasSuffix "-cpu" $image)) }}
- workerGroups.{{ $name }} has GPUs and runs {{ $image }}, which is {{ ternary "images.cpu" "without CUDA by its tag" $same }}.
{{- end }}
{{- $drain := $group.drainSeconds | default $.Values.drainSeconds | int }}
{{- if and $group.spot (has $.Values.cloud (list "gke" "aks")) (gt $drain 25) }}
- workerGroups.{{ $name }} drains for {{ $drain }} s, but {{ upper $.Values.cloud }} gives a spot node about 30 s in all, and its pods 15 to 25.
{{- end }}
{{- if and $group.spot (has $.Values.cloud (list "eks" "karpenter")) (gt $drain 110) }}
- workerGroups.{{ $name }} drains for {{ $drain }} s, but EKS gives a spot node 120 s in all.
{{- end }}
{{- if and $group.hostNetwork (gt (int $group.maxReplicas) 1) }}
- workerGroups.{{ $name }}.hostNetwork: Ray's ports are the node's, one pod a node.
{{- end }}
{{- end }}
{{- $preset := get (include "masters.cloud" . | fromYaml) .Values.cloud }}
{{- if and $preset (not $preset.onDemand) }}
{{- range $path, $of := include "masters.validate.all" . | fromYaml }}
{{- with dig "nodeAffinity" "" ($of.affinity | default dict) }}
{{- if and (not $of.spot) (not (contains $preset.key (toYaml .))) }}
- {{ $path }}.affinity.nodeAffinity is instead of the preset's, which keeps these pods off spot nodes: add {key: {{ $preset.key }}, operator: DoesNotExist} to each of its terms.
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (eq .Values.storage.kind "pvc") (eq .Values.storage.pvc.accessMode "ReadWriteOnce") (gt (int $pods) 1) }}
- storage.pvc.accessMode is ReadWriteOnce, and there may be {{ $pods }} pods: they start on one node only.
{{- end }}
{{- $alone := and (eq .Values.modelCache.kind "pvc") (not .Values.modelCache.existingClaim) (eq .Values.modelCache.accessMode "ReadWriteOnce") }}
{{- if and $alone (gt (int $pods) 1) }}
- modelCache.accessMode is ReadWriteOnce, and there may be {{ $pods }} pods: they start on one node only.
{{- end }}
{{- end }}

{{- define "masters.warn.disks" -}}
{{- if eq (include "masters.cache.kind" .) "emptyDir" }}
{{- range $name, $group := include "masters.groups" . | fromYaml }}
{{- if and $group.gpusPerPod (gt (int $group.maxReplicas) 1) }}
- workerGroups.{{ $name }}: each pod fetches the models anew, {{ $group.maxReplicas }} of them behind one address, and asks its node for {{ include "masters.disk" (dict "root" $ "role" "worker" "of" $group) }} of disk: name a claim in modelCache, or a hub_mirror in the recipe.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.warn.operator" -}}
{{- if .Values.operator.enabled }}
{{- $seconds := 300 }}
{{- range (index .Values "kuberay-operator" | default dict).env }}
{{- if eq .name "RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS" }}{{ $seconds = int .value }}{{ end }}
{{- end }}
{{- if lt $seconds 900 }}
- the operator ends a RayJob for good whose head is away for {{ $seconds }} s, and a new node takes minutes: set RAYJOB_STATUS_CHECK_TIMEOUT_SECONDS in kuberay-operator.env, as the chart does.
{{- end }}
{{- end }}
{{- end }}
