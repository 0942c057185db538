{{/*
How each cloud marks a spot node: the label's key, its value on spot and on on-demand nodes ("" where these have no such
label), and whether spot nodes carry the label as a taint too.
*/}}
{{- define "masters.cloud" -}}
gke: {key: cloud.google.com/gke-spot, spot: "true", onDemand: "", tainted: true}
eks: {key: eks.amazonaws.com/capacityType, spot: SPOT, onDemand: ON_DEMAND, tainted: false}
karpenter: {key: karpenter.sh/capacity-type, spot: spot, onDemand: on-demand, tainted: false}
aks: {key: kubernetes.azure.com/scalesetpriority, spot: spot, onDemand: "", tainted: true}
none: {}
{{- end }}

{{/*
nodeSelector, tolerations, affinity and spread of a pod. Call with root, spot, gpus, the values of the head or group as `of`,
and its name, as ray.io/group has it, as `group`; empty for a pod that is not Ray's.
*/}}
{{- define "masters.placement" -}}
{{- $preset := get (include "masters.cloud" . | fromYaml) .root.Values.cloud -}}
{{- $selector := dict -}}
{{- $tolerations := list -}}
{{- $affinity := deepCopy (.of.affinity | default dict) -}}
{{- if $preset }}
  {{- $value := ternary $preset.spot $preset.onDemand .spot }}
  {{- if $value }}{{ $_ := set $selector $preset.key $value }}{{ end }}
  {{- if and .spot $preset.tainted }}
    {{- $tolerations = append $tolerations (dict "key" $preset.key "operator" "Equal" "value" $preset.spot "effect" "NoSchedule") }}
  {{- end }}
  {{- if and (not $value) (not (hasKey $affinity "nodeAffinity")) }}
    {{- $term := dict "matchExpressions" (list (dict "key" $preset.key "operator" "NotIn" "values" (list $preset.spot))) }}
    {{- $_ := set $affinity "nodeAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" (list $term))) }}
  {{- end }}
{{- end }}
{{- if .gpus }}
  {{- $tolerations = append $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- if eq (.group | default "") "headgroup" }}{{ $tolerations = concat $tolerations (include "masters.headLoss" . | fromYamlArray) }}{{ end -}}
{{- $own := dict "matchLabels" (merge (include "masters.pods" .root | fromYaml) (dict "ray.io/group" (.group | default ""))) -}}
{{- /* The cluster's name is a RayJob's own, which nobody knows beforehand: matchLabelKeys takes it from the pod (Kubernetes 1.31). */ -}}
{{- $zone := .of.sameZone | default "none" -}}
{{- if and .group (ne $zone "none") }}
  {{- $term := dict "labelSelector" $own "topologyKey" "topology.kubernetes.io/zone" "matchLabelKeys" (list "ray.io/cluster") }}
  {{- if eq $zone "required" }}
    {{- $_ := set $affinity "podAffinity" (dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term)) }}
  {{- else }}
    {{- $_ := set $affinity "podAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term))) }}
  {{- end }}
{{- end }}
{{- $spread := list -}}
{{- range (ternary .of.topologySpread list (ne (.group | default "") "")) }}{{ $spread = append $spread (merge (dict) . (dict "labelSelector" $own)) }}{{ end -}}
{{- with merge (dict) (.of.nodeSelector | default dict) $selector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat $tolerations (.of.tolerations | default list) }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $spread }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A node that holds such a pod is not scaled down, by the cluster autoscaler or by Karpenter. */}}
{{- define "masters.doNotEvict" -}}
cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
karpenter.sh/do-not-disrupt: "true"
{{- end }}

{{/*
How long the head stays on a node that is gone: Kubernetes gives a pod 300 s where it says nothing, which is all the time that
KubeRay 1.7 gives a RayJob whose head does not answer. A toleration of the user's own for such a node replaces ours.
*/}}
{{- define "masters.headLoss" -}}
{{- $own := list -}}
{{- range .of.tolerations }}{{ if eq (.effect | default "NoExecute") "NoExecute" }}{{ $own = append $own (.key | default "") }}{{ end }}{{ end -}}
{{- range list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" }}
{{- if not (or (has . $own) (has "" $own)) }}
- {key: {{ . }}, operator: Exists, effect: NoExecute, tolerationSeconds: 30}
{{- end }}
{{- end }}
{{- end }}
