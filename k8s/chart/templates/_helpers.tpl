{{/*
Name of the RayCluster, and stem of every other name. It is the release's name where that is a DNS label of at most 41
characters: then KubeRay's <name>-head-svc and our <name>-worker stay within the 50 characters at which KubeRay clips.
Otherwise a shortened form with a hash of the whole name, so that two long releases never meet.
*/}}
{{- define "masters.cluster" -}}
{{- $release := .Release.Name -}}
{{- if and (le (len $release) 41) (regexMatch "^[a-z][-a-z0-9]*$" $release) -}}
{{- $release -}}
{{- else -}}
{{- $stem := regexReplaceAll "^[^a-z]*" (replace "." "-" $release) "" | trunc 30 | trimSuffix "-" | default "ray" -}}
{{- printf "%s-%s" $stem (sha256sum $release | trunc 8) -}}
{{- end -}}
{{- end }}

{{- define "masters.priorityClass" -}}
{{- printf "%s-%s" .Release.Namespace (include "masters.cluster" .) -}}
{{- end }}

{{/* Labels of every object. */}}
{{- define "masters.labels" -}}
app.kubernetes.io/name: masters
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/*
Ray's pods of this release: of its cluster, and of the clusters that KubeRay makes for RayJobs of `masters submit --manifest`,
whose names nobody knows beforehand. KubeRay sets ray.io/is-ray-node and keeps the pod template's own labels.
*/}}
{{- define "masters.pods" -}}
ray.io/is-ray-node: "yes"
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "masters.serviceAccount" -}}
{{- $account := get .root.Values.serviceAccounts .role -}}
{{- if $account.name }}{{ $account.name }}
{{- else if $account.create }}{{ include "masters.cluster" .root }}-{{ .role }}
{{- else }}default{{ end -}}
{{- end }}

{{- define "masters.token.secret" -}}
{{- .Values.auth.existingSecret | default (include "masters.cluster" .) -}}
{{- end }}

{{- define "masters.runs.claim" -}}
{{- .Values.storage.pvc.existingClaim | default (printf "%s-runs" (include "masters.cluster" .)) -}}
{{- end }}

{{- define "masters.models.claim" -}}
{{- .Values.modelCache.existingClaim | default (printf "%s-models" (include "masters.cluster" .)) -}}
{{- end }}

{{/* What holds the models: modelCache.kind, `auto` resolved. */}}
{{- define "masters.cache.kind" -}}
{{- $cache := .Values.modelCache -}}
{{- $gpus := 0 -}}
{{- range include "masters.groups" . | fromYaml }}{{ $gpus = add $gpus (.gpusPerPod | default 0) }}{{ end -}}
{{- $ours := and (eq .Values.storage.kind "pvc") (not .Values.storage.pvc.existingClaim) -}}
{{- if ne $cache.kind "auto" }}{{ $cache.kind }}
{{- else if or $cache.existingClaim $cache.storageClassName (and $ours (gt (int $gpus) 0)) }}pvc
{{- else }}emptyDir{{ end -}}
{{- end }}

{{/*
Of the node's disk, a quantity: what requests says, else scratch, as much as Ray may spill, and a cache that is the pod's own.
Call with root, role and of.
*/}}
{{- define "masters.disk" -}}
{{- $disk := addf (dig "scratchGi" 20 .of) .of.shmGi -}}
{{- if and (eq .role "worker") (eq (include "masters.cache.kind" .root) "emptyDir") }}{{ $disk = addf $disk .root.Values.modelCache.sizeGi }}{{ end -}}
{{- index (.of.requests | default dict) "ephemeral-storage" | default (include "masters.gi" $disk) -}}
{{- end }}

{{/* Gi as a number, fractions allowed -> a quantity. */}}
{{- define "masters.gi" -}}
{{ mulf . 1024 | int64 }}Mi
{{- end }}

{{/* A quantity as a number: 1.5Gi, 200m, 2. */}}
{{- define "masters.number" -}}
{{- $digits := regexFind "^[0-9.]+" . -}}
{{- $units := dict "" 1.0 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 -}}
{{- $units = merge $units (dict "Ki" 0x1p10 "Mi" 0x1p20 "Gi" 0x1p30 "Ti" 0x1p40 "Pi" 0x1p50) -}}
{{- mulf (float64 $digits) (get $units (trimPrefix $digits .)) -}}
{{- end }}

{{/* What Pod Security `restricted` asks of a container. */}}
{{- define "masters.containerSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.runAsUser | int64 }}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .Values.podSecurity.readOnlyRootFilesystem }}
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "masters.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.runAsUser | int64 }}
fsGroup: {{ .Values.podSecurity.fsGroup | int64 }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* The groups that are on, as a map by name. */}}
{{- define "masters.groups" -}}
{{- $groups := dict -}}
{{- range $name, $group := .Values.workerGroups }}
{{- if and $group $group.enabled }}{{ $_ := set $groups $name $group }}{{ end }}
{{- end }}
{{- toYaml $groups -}}
{{- end }}

{{/* Bytes of Ray's object store: half of /dev/shm, the rest is NCCL's and vLLM's. Above its size Ray would use the disk. */}}
{{- define "masters.objectStore" -}}
{{ mulf .shmGi 536870912 | int64 }}
{{- end }}

{{/*
replicas and scaleStrategy are the autoscaler's. An upgrade repeats what it finds in the cluster, within the new limits,
since the API server takes the list of groups as one value: without this, an upgrade would scale every group to 0.
*/}}
{{- define "masters.replicas" -}}
{{- $replicas := .group.minReplicas | int -}}
{{- $strategy := dict -}}
{{- if and .autoscaling .live }}
{{- range .live.spec.workerGroupSpecs }}
{{- if eq .groupName $.name }}
{{- $replicas = max (int $.group.minReplicas) (min (int $.group.maxReplicas) (int .replicas)) }}
{{- $strategy = .scaleStrategy | default dict }}
{{- end }}
{{- end }}
{{- end -}}
replicas: {{ $replicas }}
{{- with $strategy }}
scaleStrategy: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
