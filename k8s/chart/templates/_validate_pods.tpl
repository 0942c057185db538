{{/*
Rules about the pods of the head and of the groups: what the API server or the operator would refuse later, in events that
nobody reads, and what weakens the restricted Pod Security standard.
*/}}

{{/* Path -> values of the head and of every group that is on. */}}
{{- define "masters.validate.all" -}}
{{- $all := dict "head" .Values.head -}}
{{- range $name, $group := include "masters.groups" . | fromYaml }}{{ $_ := set $all (printf "workerGroups.%s" $name) $group }}{{ end -}}
{{- toYaml $all -}}
{{- end }}

{{- define "masters.validate.pods" -}}
{{- range $path, $of := include "masters.validate.all" . | fromYaml }}
{{- range $i, $one := $of.tolerations }}
{{- $at := printf "%s.tolerations[%d]" $path $i }}
{{- if and (eq ($one.operator | default "Equal") "Exists") $one.value }}
- {{ $at }}.value is {{ quote $one.value }}, but operator Exists takes no value: leave it out, or use Equal
{{- end }}
{{- if and (not $one.key) (ne ($one.operator | default "Equal") "Exists") }}
- {{ $at }} has no key: name one, or use operator Exists, which tolerates every taint
{{- end }}
{{- if and (hasKey $one "tolerationSeconds") (ne ($one.effect | default "") "NoExecute") }}
- {{ $at }}.tolerationSeconds is {{ $one.tolerationSeconds }}, which is of effect NoExecute only: set that effect, or leave it out
{{- end }}
{{- end }}
{{- range $key, $_ := $of.podLabels }}
{{- if or (hasPrefix "ray.io/" $key) (has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/created-by")) }}
- {{ $path }}.podLabels holds {{ $key }}, by which the chart and the operator find pods: take another key
{{- end }}
{{- end }}
{{- if and (ne ($of.sameZone | default "none") "none") (hasKey ($of.affinity | default dict) "podAffinity") }}
- {{ $path }}.sameZone is {{ $of.sameZone }}, and affinity.podAffinity is given too: set sameZone to none, or leave podAffinity out
{{- end }}
{{- $spreads := list }}
{{- range $i, $one := $of.topologySpread }}
{{- $spread := list $one.topologyKey $one.whenUnsatisfiable }}
{{- if has $spread $spreads }}
- {{ $path }}.topologySpread[{{ $i }}] has the topologyKey and whenUnsatisfiable of one before it, which the API server refuses: make one of them
{{- end }}
{{- $spreads = append $spreads $spread }}
{{- if and $one.minDomains (ne $one.whenUnsatisfiable "DoNotSchedule") }}
- {{ $path }}.topologySpread[{{ $i }}].minDomains is {{ $one.minDomains }}, which is of whenUnsatisfiable DoNotSchedule only: set that, or leave it out
{{- end }}
{{- end }}
{{- include "masters.validate.spotNodes" (dict "root" $ "path" $path "of" $of) }}
{{- include "masters.validate.devices" (dict "root" $ "path" $path "of" $of) }}
{{- include "masters.validate.containers" (dict "root" $ "path" $path "of" $of) }}
{{- end }}
{{- end }}

{{/* A selector or an affinity that contradicts `spot`: the label ray.io/market-type would lie, and a gang die with a spot node. */}}
{{- define "masters.validate.spotNodes" -}}
{{- $spot := default false .of.spot -}}
{{- $marks := dict "cloud.google.com/gke-provisioning" (list "spot" "preemptible") "cloud.google.com/gke-preemptible" (list "true") -}}
{{- range $cloud, $preset := include "masters.cloud" . | fromYaml }}{{ with $preset.key }}{{ $_ := set $marks . (list $preset.spot) }}{{ end }}{{ end -}}
{{- $asked := list -}}
{{- range $key, $value := .of.nodeSelector }}{{ $asked = append $asked (list "nodeSelector" $key (list $value)) }}{{ end -}}
{{- range dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" list (.of.affinity | default dict) }}
{{- range .matchExpressions }}{{ if eq .operator "In" }}{{ $asked = append $asked (list "affinity.nodeAffinity" .key .values) }}{{ end }}{{ end }}
{{- end -}}
{{- range $one := $asked }}
{{- with get $marks (index $one 1) }}
{{- range $value := last $one }}
{{- $marked := has $value (get $marks (index $one 1)) }}
{{- if and (not $spot) $marked }}
- {{ $.path }}.{{ first $one }} asks for {{ index $one 1 }}: {{ $value }}, a spot node, but {{ ternary "the head is never on one" "spot is false" (eq $.path "head") }}: {{ ternary "take the selector away" "set spot, or take the selector away" (eq $.path "head") }}
{{- else if and $spot (not $marked) }}
- {{ $.path }}.{{ first $one }} asks for {{ index $one 1 }}: {{ $value }}, an on-demand node, but spot is true: set spot to false, or take the selector away
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.validate.devices" -}}
{{- range $name, $count := .of.resources }}
{{- if hasPrefix "hugepages-" $name }}
{{- if not (kindIs "string" $count) }}
- {{ $.path }}.resources.{{ $name }} is {{ $count }}, pages are counted in bytes: give a quantity, as 5120Mi
{{- else if mod (include "masters.number" $count | float64 | int64) (trimPrefix "hugepages-" $name | include "masters.number" | float64 | int64) }}
- {{ $.path }}.resources.{{ $name }} is {{ $count }}, which is not a whole number of pages: give a multiple of {{ trimPrefix "hugepages-" $name }}
{{- end }}
{{- else if kindIs "string" $count }}
- {{ $.path }}.resources.{{ $name }} is {{ quote $count }}, devices are counted: give a whole number
{{- else if eq $name ($.of.gpuResource | default "nvidia.com/gpu") }}
- {{ $.path }}.resources holds {{ $name }}, which is what gpusPerPod counts: set gpusPerPod
{{- else if hasPrefix "nvidia.com/" $name }}
- {{ $.path }}.resources holds {{ $name }}, GPUs that Ray would not count: set gpuResource and gpusPerPod
{{- else if regexMatch "(^|\\.)kubernetes\\.io/" $name }}
- {{ $.path }}.resources holds {{ $name }}: names of kubernetes.io are no devices, and the API server refuses them; name what the device plugin advertises
{{- end }}
{{- end }}
{{- if and (ne (.of.gpuResource | default "nvidia.com/gpu") "nvidia.com/gpu") (not .of.gpusPerPod) }}
- {{ .path }}.gpuResource is {{ .of.gpuResource }}, but gpusPerPod is 0: set gpusPerPod
{{- end }}
{{- $weak := .of.capabilities | default list -}}
{{- range list "hostNetwork" "hostIPC" }}{{ if get $.of . }}{{ $weak = append $weak . }}{{ end }}{{ end -}}
{{- range $weak }}
{{- if not (has . $.root.Values.podSecurity.allow) }}
- {{ $.path }} asks for {{ . }}, which the restricted Pod Security standard refuses: take it away, or name {{ . }} in podSecurity.allow
{{- end }}
{{- end }}
{{- if and .of.hostNetwork .root.Values.networkPolicy.enabled (not .root.Values.networkPolicy.nodeCIDRs) }}
- {{ .path }}.hostNetwork is true, and its pods would come to the head from their nodes' addresses, which the policy keeps out: name them in networkPolicy.nodeCIDRs
{{- end }}
{{- end }}

{{- define "masters.validate.containers" -}}
{{- $names := list "ray-head" "ray-worker" "autoscaler" "wait-gcs-ready" -}}
{{- $volumes := list "shm" "tmp" "home" "models" "runs" "gcs-key" -}}
{{- range .root.Values.extraVolumes }}{{ $volumes = append $volumes .name }}{{ end -}}
{{- range $list := list "initContainers" "sidecars" }}
{{- range $i, $one := index $.of $list }}
{{- $at := printf "%s.%s[%d]" $.path $list $i }}
{{- if has $one.name $names }}
- {{ $at }}.name is {{ $one.name }}, which is taken: give another
{{- end }}
{{- $names = append $names $one.name }}
{{- if and $one.restartPolicy (eq $list "sidecars") }}
- {{ $at }}.restartPolicy is of initContainers only, which it makes run beside Ray: leave it out, or move the container
{{- end }}
{{- with include "masters.validate.image" $one.image | trim }}
- {{ $at }}.image is {{ quote $one.image }}: {{ . }}
{{- end }}
{{- range $key, $asked := ($one.resources.requests | default dict) }}
{{- with get $one.resources.limits $key }}
{{- if gt (include "masters.number" $asked | float64) (include "masters.number" . | float64) }}
- {{ $at }}.resources.requests.{{ $key }} is {{ $asked }}, above the limit, which is {{ . }}: lower it
{{- end }}
{{- end }}
{{- end }}
{{- $paths := list }}
{{- range $one.volumeMounts }}
{{- if not (has .name $volumes) }}
- {{ $at }}.volumeMounts: no volume is named {{ .name }}: add it to extraVolumes
{{- end }}
{{- if has (clean .mountPath) $paths }}
- {{ $at }}.volumeMounts has {{ .mountPath }} twice, which the API server refuses: mount one volume there
{{- end }}
{{- $paths = append $paths (clean .mountPath) }}
{{- if or (eq (clean .mountPath) "/") (regexMatch "^/(dev|proc|sys)/" (printf "%s/" (clean .mountPath))) (has ".." (concat (splitList "/" .mountPath) (splitList "/" (.subPath | default "")))) }}
- {{ $at }}.volumeMounts: {{ .mountPath }}{{ with .subPath }} of {{ . }}{{ end }} is over what every container has, or leads out of its folder: take a path of its own, as /mnt/x
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What is wrong with an image's name; empty where nothing is. */}}
{{- define "masters.validate.image" -}}
{{- $part := "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*" -}}
{{- $name := printf "^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]+)?/)?%s(/%s)*" $part $part -}}
{{- if or (hasSuffix ":latest" .) (not (regexMatch "(:[A-Za-z0-9_][-A-Za-z0-9_.]*|@sha256:[a-f0-9]{64})$" .)) -}}
give it a tag other than latest, or a digest, so that all pods run the same
{{- else if not (regexMatch (printf "%s(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[a-f0-9]{64})?$" $name) .) -}}
no registry takes such a name: write [registry[:port]/]repository:tag, the repository in lower case
{{- end -}}
{{- end }}

{{/* Keys of labels, annotations, variables and resources, wherever they are. */}}
{{- define "masters.validate.keys" -}}
{{- range $key, $value := omit .Values "extraObjects" "kuberay-operator" "global" }}
{{- include "masters.validate.keysBelow" (dict "path" $key "key" $key "value" $value) }}
{{- end }}
{{- end }}

{{- define "masters.validate.keysBelow" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value }}
{{- if regexMatch "\\.matchExpressions\\[[0-9]+\\]$" $path }}{{ include "masters.validate.expression" . }}{{ end }}
{{- $name := "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?" -}}
{{- $prefix := "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/" -}}
{{- $rule := list -}}
{{- if has .key (list "labels" "matchLabels" "podLabels" "nodeSelector" "annotations") }}
{{- $rule = list (printf "^(%s)?%s$" $prefix $name) "no key of a label: write name or prefix/name, the name of at most 63 letters, digits and -_." }}
{{- else if has .key (list "env" "secretEnv") }}
{{- $rule = list "^[A-Za-z_][A-Za-z0-9_]*$" "no name of a variable: letters, digits and _ only, no digit first" }}
{{- else if and (eq .key "resources") (hasPrefix "workerGroups." $path) (not (hasSuffix "].resources" $path)) }}
{{- $rule = list (printf "^(hugepages-(2Mi|1Gi)|%s%s)$" $prefix $name) "not what a device plugin advertises: cpu, memory and disk are cpus, memoryGi and scratchGi; others are maker.com/device or hugepages-2Mi" }}
{{- else if eq .key "hard" }}
{{- $rule = list (printf "^(%s)?%s$" $prefix $name) "nothing that a quota counts: write pods, requests.cpu, requests.nvidia.com/gpu and the like" }}
{{- end }}
{{- range $key, $value := .value }}
{{- if $rule }}
{{- if not (regexMatch (first $rule) $key) }}
- {{ $path }} holds {{ quote $key }}, {{ last $rule }}
{{- end }}
{{- end }}
{{- include "masters.validate.keysBelow" (dict "path" (printf "%s.%s" $path $key) "key" $key "value" $value) }}
{{- end }}
{{- else if kindIs "slice" .value }}
{{- range $i, $value := .value }}
{{- include "masters.validate.keysBelow" (dict "path" (printf "%s[%d]" $path $i) "key" "" "value" $value) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What an operator takes, which the API server would ask of the pod. Call with path and value. */}}
{{- define "masters.validate.expression" -}}
{{- $operator := .value.operator -}}
{{- $values := .value.values | default list -}}
{{- if and (has $operator (list "In" "NotIn")) (not $values) }}
- {{ .path }} has operator {{ $operator }} and no values: name some
{{- end }}
{{- if and (has $operator (list "Exists" "DoesNotExist")) $values }}
- {{ .path }} has operator {{ $operator }}, which takes no values: leave them out, or use In
{{- end }}
{{- if has $operator (list "Gt" "Lt") }}
{{- if regexMatch "Selector\\.matchExpressions" .path }}
- {{ .path }} has operator {{ $operator }}, which is of nodes only: use In, NotIn, Exists or DoesNotExist
{{- else if or (ne (len $values) 1) (not (regexMatch "^[0-9]+$" (join "" $values))) }}
- {{ .path }} has operator {{ $operator }}, which takes one whole number: give it in values, in quotes
{{- end }}
{{- end }}
{{- end }}
