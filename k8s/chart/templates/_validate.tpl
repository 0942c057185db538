{{/*
Rules between values, which values.schema.json cannot state in words that help. (The schema knows each value's own shape.)
All that is wrong is said at once: path, value, rule, remedy.
*/}}
{{- define "masters.validate" -}}
{{- $problems := list -}}
{{- range list "keys" "images" "groups" "pods" "requests" "storage" "cache" "options" "policy" "environment" "secrets" "volumes" "mounts" -}}
{{- with include (printf "masters.validate.%s" .) $ | trim }}{{ $problems = append $problems . }}{{ end -}}
{{- end -}}
{{- with $problems }}{{ fail (printf "these values cannot work:\n%s\n" (join "\n" .)) }}{{ end -}}
{{- end }}

{{- define "masters.validate.images" -}}
{{- $images := dict "images.cpu" .Values.images.cpu "images.gpu" .Values.images.gpu -}}
{{- range $name, $group := include "masters.groups" . | fromYaml }}
{{- with $group.image }}{{ $_ := set $images (printf "workerGroups.%s.image" $name) . }}{{ end }}
{{- end }}
{{- range $path, $image := $images }}
{{- with include "masters.validate.image" $image | trim }}
- {{ $path }} is {{ quote $image }}: {{ . }}
{{- end }}
{{- end }}
{{- if semverCompare "<2.58.0" .Values.rayVersion }}
- rayVersion is {{ .Values.rayVersion }}: 2.58.0 is the first whose workers drain on SIGTERM
{{- end }}
{{- end }}

{{- define "masters.validate.groups" -}}
{{- $groups := include "masters.groups" . | fromYaml -}}
{{- if not $groups }}
- workerGroups: every group is disabled; enable one
{{- end }}
{{- if ge (float64 .Values.head.shmGi) (float64 .Values.head.memoryGi) }}
- head.shmGi is {{ .Values.head.shmGi }}, but /dev/shm counts in head.memoryGi, which is {{ .Values.head.memoryGi }}; raise memoryGi
{{- end }}
{{- range $name, $group := $groups }}
{{- $path := printf "workerGroups.%s" $name }}
{{- if has $name (list "head" "headgroup") }}
- {{ $path }}: the name is the head's; take another
{{- end }}
{{- if gt (int $group.minReplicas) (int $group.maxReplicas) }}
- {{ $path }}.minReplicas is {{ $group.minReplicas }}, above maxReplicas {{ $group.maxReplicas }}
{{- end }}
{{- if and (not $.Values.autoscaling.enabled) (eq (int $group.minReplicas) 0) }}
- {{ $path }}.minReplicas is 0 and autoscaling is off: the group would never have a pod; raise it, or disable the group
{{- end }}
{{- if ge (float64 $group.shmGi) (float64 $group.memoryGi) }}
- {{ $path }}.shmGi is {{ $group.shmGi }}, but /dev/shm counts in memoryGi, which is {{ $group.memoryGi }}; raise memoryGi
{{- end }}
{{- if and $group.acceleratorType (not $group.gpusPerPod) }}
- {{ $path }}.acceleratorType is {{ $group.acceleratorType }}, but gpusPerPod is 0
{{- end }}
{{- if and $group.spot $group.doNotEvict }}
- {{ $path }}: spot and doNotEvict exclude each other, a cloud takes a spot node back whatever we wish
{{- end }}
{{- range list "ray.io/node-group" "ray.io/market-type" "ray.io/accelerator-type" }}
{{- if hasKey ($group.labels | default dict) . }}
- {{ $path }}.labels holds {{ . }}, which the chart sets from nodeGroup, spot and acceleratorType
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.validate.requests" -}}
{{- range $path, $of := include "masters.validate.all" . | fromYaml }}
{{- with ($of.requests | default dict).cpu }}
{{- if gt (include "masters.number" . | float64) (float64 $of.cpus) }}
- {{ $path }}.requests.cpu is {{ . }}, above the limit, cpus, which is {{ $of.cpus }}
{{- end }}
{{- end }}
{{- with ($of.requests | default dict).memory }}
{{- if gt (include "masters.number" . | float64) (mulf $of.memoryGi 0x1p30) }}
- {{ $path }}.requests.memory is {{ . }}, above the limit, memoryGi, which is {{ $of.memoryGi }}
{{- end }}
{{- if lt (include "masters.number" . | float64) 0x1p27 }}
- {{ $path }}.requests.memory is {{ . }}, less than 128Mi, with which Ray does not start: is a unit missing?
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.validate.storage" -}}
{{- $storage := .Values.storage -}}
{{- $set := dict "pvc" (list "existingClaim" "storageClassName") "s3" (list "existingSecret" "region" "endpoint") "gcs" (list "existingSecret") -}}
{{- range $kind, $keys := $set }}
{{- range $keys }}
{{- if and (ne $kind $storage.kind) (get (get $storage $kind) .) }}
- storage.{{ $kind }}.{{ . }} is set, but storage.kind is {{ $storage.kind }}
{{- end }}
{{- end }}
{{- end }}
{{- if contains "@" $storage.s3.endpoint }}
- storage.s3.endpoint names a user or a password: take it out, and name a Secret with the keys in storage.s3.existingSecret
{{- end }}
{{- if and $storage.pvc.existingClaim $storage.pvc.storageClassName }}
- storage.pvc.storageClassName is of no use with existingClaim: a claim that exists has its class
{{- end }}
{{- end }}

{{- define "masters.validate.cache" -}}
{{- $cache := .Values.modelCache -}}
{{- if and $cache.existingClaim $cache.storageClassName }}
- modelCache.storageClassName is of no use with existingClaim: a claim that exists has its class
{{- end }}
{{- if and (has $cache.kind (list "emptyDir" "hostPath")) (or $cache.existingClaim $cache.storageClassName) }}
- modelCache.existingClaim or storageClassName is set, but modelCache.kind is {{ $cache.kind }}: use kind pvc, or leave them out
{{- end }}
{{- if and (eq $cache.kind "hostPath") (not $cache.hostPath) }}
- modelCache.kind is hostPath: name the folder of the nodes in modelCache.hostPath
{{- end }}
{{- if and (ne $cache.kind "hostPath") $cache.hostPath }}
- modelCache.hostPath is {{ $cache.hostPath }}, but modelCache.kind is {{ $cache.kind }}: use kind hostPath, or leave it out
{{- end }}
{{- if and (eq $cache.kind "hostPath") (not (has "hostPath" .Values.podSecurity.allow)) }}
- modelCache.kind is hostPath, which the restricted Pod Security standard refuses: use another kind, or name hostPath in podSecurity.allow
{{- end }}
{{- with .Values.prefetch }}
{{- if and (eq .kind "job") (not .models) }}
- prefetch.kind is job, but prefetch.models is empty: name the models to fetch
{{- end }}
{{- if and (eq .kind "none") .models }}
- prefetch.models is set, but prefetch.kind is none: use job or daemonset
{{- end }}
{{- if and (eq .kind "job") (ne (include "masters.cache.kind" $) "pvc") }}
- prefetch.kind is job, which fills a claim, but modelCache.kind is {{ $cache.kind }}{{ if eq $cache.kind "auto" }}, here {{ include "masters.cache.kind" $ }}{{ end }}: use kind pvc for the cache, or a daemonset
{{- end }}
{{- if and (eq .kind "daemonset") .models (ne (include "masters.cache.kind" $) "hostPath") }}
- prefetch.models is set for a daemonset, whose pods share no disk with Ray's unless modelCache.kind is hostPath: use a job, or leave models out
{{- end }}
{{- if eq .kind "daemonset" }}
{{- $gpus := 0 }}
{{- range include "masters.groups" $ | fromYaml }}{{ $gpus = add $gpus (.gpusPerPod | default 0) }}{{ end }}
{{- if not (int $gpus) }}
- prefetch.kind is daemonset, but no group has GPUs: it is for their nodes
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.validate.policy" -}}
{{- $peers := dict "networkPolicy.clients" .Values.networkPolicy.clients -}}
{{- range $i, $rule := .Values.networkPolicy.extraIngress }}{{ $_ := set $peers (printf "networkPolicy.extraIngress[%d].from" $i) ($rule.from | default list) }}{{ end -}}
{{- range $i, $rule := .Values.networkPolicy.extraEgress }}{{ $_ := set $peers (printf "networkPolicy.extraEgress[%d].to" $i) ($rule.to | default list) }}{{ end -}}
{{- range $path, $list := $peers }}
{{- range $i, $peer := $list }}
{{- if and $peer.ipBlock (or (hasKey $peer "podSelector") (hasKey $peer "namespaceSelector")) }}
- {{ $path }}[{{ $i }}] has an ipBlock and a selector, which the API server refuses: make two entries of them
{{- end }}
{{- end }}
{{- end }}
{{- range $i, $one := .Values.submitters.subjects }}
{{- if and (eq $one.kind "ServiceAccount") (not $one.namespace) }}
- submitters.subjects[{{ $i }}] is a ServiceAccount without a namespace: name it
{{- end }}
{{- if and (ne $one.kind "ServiceAccount") $one.namespace }}
- submitters.subjects[{{ $i }}].namespace is {{ $one.namespace }}, but a {{ $one.kind }} has none: leave it out
{{- end }}
{{- end }}
{{- if and .Values.submitters.create (not .Values.submitters.subjects) }}
- submitters.create is true, but submitters.subjects is empty: name those who may submit
{{- end }}
{{- if and .Values.submitters.subjects (not .Values.submitters.create) }}
- submitters.subjects is set, but submitters.create is false: set it
{{- end }}
{{- if and .Values.proxy.noProxy (not .Values.proxy.https) (not .Values.proxy.http) }}
- proxy.noProxy is set, but neither proxy.https nor proxy.http is
{{- end }}
{{- range list "https" "http" }}
{{- if contains "@" (get $.Values.proxy .) }}
- proxy.{{ . }} names a user or a password, which everybody who reads the pod would see: use a proxy that knows the cluster by its address
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.validate.options" -}}
{{- with .Values.kueue }}
{{- if and .enabled (not .queueName) }}
- kueue.enabled needs kueue.queueName
{{- end }}
{{- if and .elastic (not .enabled) }}
- kueue.elastic is set, but kueue.enabled is not
{{- end }}
{{- if and .enabled (not .elastic) $.Values.autoscaling.enabled }}
- kueue.enabled with autoscaling.enabled needs kueue.elastic (Kueue's gate ElasticJobsViaWorkloadSlices); else turn autoscaling off
{{- end }}
{{- $groups := include "masters.groups" $ | fromYaml | len }}
{{- if and .enabled (gt $groups 17) }}
- workerGroups: {{ $groups }} groups are enabled, Kueue takes at most 17
{{- end }}
{{- end }}
{{- with .Values.gcsFaultTolerance }}
{{- if and .enabled (not .redisAddress) }}
- gcsFaultTolerance.enabled needs gcsFaultTolerance.redisAddress, a Redis of yours
{{- end }}
{{- if and .enabled (not .existingSecret) }}
- gcsFaultTolerance.enabled needs gcsFaultTolerance.existingSecret, with Redis's password
{{- end }}
{{- end }}
{{- if and .Values.resourceQuota.enabled (not .Values.resourceQuota.hard) }}
- resourceQuota.enabled needs resourceQuota.hard
{{- end }}
{{- range $role, $account := .Values.serviceAccounts }}
{{- if and $account.annotations (not $account.create) }}
- serviceAccounts.{{ $role }}.annotations is set, but create is false: annotate the account that exists
{{- end }}
{{- if and (eq $role "head") (not $account.create) (not $account.name) }}
- serviceAccounts.head.create is false: give the name of the account that exists, else the autoscaler's role would go to `default`
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.validate.environment" -}}
{{- $maps := dict "env" .Values.env "head.env" .Values.head.env -}}
{{- /* Groups that are off, too: a secret would lie in the release even so. */ -}}
{{- range $name, $group := .Values.workerGroups }}
{{- with $group }}{{ $_ := set $maps (printf "workerGroups.%s.env" $name) (.env | default dict) }}{{ end }}
{{- end }}
{{- $ours := list "HOME" "HF_HOME" "RAY_USAGE_STATS_ENABLED" "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S" "RAY_REDIS_ADDRESS" "RAY_ADDRESS" -}}
{{- /* KubeRay sets these only where they are absent: RAY_AUTH_MODE: disabled would open the job API to everybody. */ -}}
{{- $ours = concat $ours (list "RAY_AUTH_MODE" "RAY_AUTH_TOKEN" "RAY_AUTH_TOKEN_PATH" "RAY_ENABLE_K8S_TOKEN_AUTH") -}}
{{- $ours = concat $ours (list "RAY_enable_autoscaler_v2" "RAY_CLOUD_INSTANCE_ID" "RAY_NODE_TYPE_NAME" "RAY_CLUSTER_NAME" "RAY_PORT" "RAY_IP" "FQ_RAY_IP") -}}
{{- $ours = concat $ours (list "REDIS_USERNAME" "REDIS_PASSWORD" "RAY_external_storage_namespace" "RAY_REDIS_PASSWORD") -}}
{{- $proxies := list "HTTPS_PROXY" "HTTP_PROXY" "NO_PROXY" -}}
{{- range $path, $env := $maps }}
{{- range $name, $value := $env }}
{{- if has $name $ours }}
- {{ $path }}.{{ $name }} is set by the chart or the operator: leave it out
{{- else if has (upper $name) $proxies }}
- {{ $path }}.{{ $name }}: use proxy.https, proxy.http and proxy.noProxy, which keep inside what is inside and open the network policy
{{- else if and (include "masters.secret.name" $name) (not (include "masters.secret.harmless" $value)) }}
- {{ $path }}.{{ $name }} looks like a secret; a literal is shown to everybody who reads the pod: use secretEnv
{{- end }}
{{- if hasKey $.Values.secretEnv $name }}
- {{ $path }}.{{ $name }} stands in secretEnv too
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.secretEnv }}
{{- if has $name $ours }}
- secretEnv.{{ $name }} is set by the chart or the operator: leave it out
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.validate.volumes" -}}
{{- $names := list "shm" "tmp" "home" "models" "runs" "gcs-key" -}}
{{- range .Values.extraVolumes }}
{{- if has .name $names }}
- extraVolumes: the name {{ .name }} is taken
{{- end }}
{{- $volume := . }}
{{- range list "hostPath" "nfs" }}
{{- if and (get $volume .) (not (has . $.Values.podSecurity.allow)) }}
- extraVolumes: {{ $volume.name }} is {{ ternary "a hostPath" "an nfs" (eq . "hostPath") }}, which the restricted Pod Security standard refuses: use a claim, or name {{ . }} in podSecurity.allow
{{- end }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- range .Values.extraVolumeMounts }}
{{- if not (has .name $names) }}
- extraVolumeMounts: no volume is named {{ .name }}
{{- end }}
{{- if has ".." (splitList "/" (.subPath | default "")) }}
- extraVolumeMounts of {{ .name }}: subPath is {{ .subPath }}, and no path with .. is taken
{{- end }}
{{- end }}
{{- end }}

{{- /* One path, one volume. /etc/masters/recipe is where the head of a RayJob finds its recipe. */ -}}
{{- define "masters.validate.mounts" -}}
{{- $taken := dict -}}
{{- range list "/dev/shm" "/tmp" "/home/masters" "/var/run/masters/gcs" "/etc/masters/recipe" }}{{ $_ := set $taken . "a volume of the chart" }}{{ end -}}
{{- $mounts := list (list "modelCache.mountPath" .Values.modelCache.mountPath) -}}
{{- if eq .Values.storage.kind "pvc" }}{{ $mounts = append $mounts (list "storage.pvc.mountPath" .Values.storage.pvc.mountPath) }}{{ end -}}
{{- $system := list "/etc" "/home" "/opt" "/root" "/run" "/var" "/var/run" "/var/lib" -}}
{{- range .Values.extraVolumeMounts }}{{ $mounts = append $mounts (list (printf "extraVolumeMounts of %s" .name) .mountPath) }}{{ end -}}
{{- range $mounts }}
{{- $path := last . | clean }}
{{- if has ".." (splitList "/" (last .)) }}
- {{ first . }} is {{ last . }}, and no path with .. is taken
{{- end }}
{{- if or (has $path $system) (regexMatch "^/(dev|proc|sys|boot|bin|sbin|lib|lib64|usr|opt/masters|run/secrets|var/run/secrets)/" (printf "%s/" $path)) (eq $path "/") }}
{{- if ne $path "/dev/shm" }}
- {{ first . }} is {{ $path }}, over what the system or the program has there: take a path of its own, as /mnt/x
{{- end }}
{{- end }}
{{- if hasKey $taken $path }}
- {{ get $taken $path }} and {{ first . }} are both {{ $path }}
{{- end }}
{{- $_ := set $taken $path (first .) }}
{{- end }}
{{- end }}
