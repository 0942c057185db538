{{/*
Rules between values, which values.schema.json cannot state in words that help. (The schema knows each value's own shape.)
All that is wrong is said at once: path, value, rule, remedy.
*/}}
{{- define "masters.validate" -}}
{{- $problems := list -}}
{{- range list "images" "groups" "requests" "storage" "options" "environment" "volumes" "mounts" -}}
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
{{- if or (hasSuffix ":latest" $image) (not (regexMatch "^[^@]+(:[A-Za-z0-9_][-A-Za-z0-9_.]*|@sha256:[a-f0-9]{64})$" $image)) }}
- {{ $path }} is {{ quote $image }}: give it a tag other than latest, or a digest, so that all pods run the same
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
{{- $all := dict "head" .Values.head -}}
{{- range $name, $group := include "masters.groups" . | fromYaml }}{{ $_ := set $all (printf "workerGroups.%s" $name) $group }}{{ end -}}
{{- range $path, $of := $all }}
{{- with ($of.requests | default dict).cpu }}
{{- if gt (include "masters.number" . | float64) (float64 $of.cpus) }}
- {{ $path }}.requests.cpu is {{ . }}, above the limit, cpus, which is {{ $of.cpus }}
{{- end }}
{{- end }}
{{- with ($of.requests | default dict).memory }}
{{- if gt (include "masters.number" . | float64) (mulf $of.memoryGi 0x1p30) }}
- {{ $path }}.requests.memory is {{ . }}, above the limit, memoryGi, which is {{ $of.memoryGi }}
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
{{- $cache := .Values.modelCache -}}
{{- if and $storage.pvc.existingClaim $storage.pvc.storageClassName }}
- storage.pvc.storageClassName is of no use with existingClaim: a claim that exists has its class
{{- end }}
{{- if and $cache.existingClaim $cache.storageClassName }}
- modelCache.storageClassName is of no use with existingClaim: a claim that exists has its class
{{- end }}
{{- if and (eq $cache.kind "emptyDir") (or $cache.existingClaim $cache.storageClassName) }}
- modelCache.existingClaim or storageClassName is set, but modelCache.kind is emptyDir
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
{{- range $name, $group := include "masters.groups" . | fromYaml }}
{{- $_ := set $maps (printf "workerGroups.%s.env" $name) ($group.env | default dict) }}
{{- end }}
{{- $ours := list "HOME" "HF_HOME" "RAY_USAGE_STATS_ENABLED" "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S" "RAY_REDIS_ADDRESS" "RAY_ADDRESS" -}}
{{- /* KubeRay sets these only where they are absent: RAY_AUTH_MODE: disabled would open the job API to everybody. */ -}}
{{- $ours = concat $ours (list "RAY_AUTH_MODE" "RAY_AUTH_TOKEN" "RAY_AUTH_TOKEN_PATH" "RAY_ENABLE_K8S_TOKEN_AUTH") -}}
{{- range $path, $env := $maps }}
{{- range $name, $_ := $env }}
{{- if has $name $ours }}
- {{ $path }}.{{ $name }} is set by the chart or the operator
{{- else if regexMatch "(?i)(^|_)(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|API_?KEY|ACCESS_KEY)($|_)" $name }}
- {{ $path }}.{{ $name }} looks like a secret; a literal is shown to everybody who reads the pod: use secretEnv
{{- end }}
{{- if hasKey $.Values.secretEnv $name }}
- {{ $path }}.{{ $name }} stands in secretEnv too
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.secretEnv }}
{{- if or (has $name $ours) (eq $name "REDIS_PASSWORD") }}
- secretEnv.{{ $name }} is set by the chart or the operator
{{- end }}
{{- end }}
{{- end }}

{{- define "masters.validate.volumes" -}}
{{- $names := list "shm" "tmp" "home" "models" "runs" "gcs-key" -}}
{{- range .Values.extraVolumes }}
{{- if has .name $names }}
- extraVolumes: the name {{ .name }} is taken
{{- end }}
{{- if .hostPath }}
- extraVolumes: {{ .name }} is a hostPath, which the restricted Pod Security standard refuses
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- range .Values.extraVolumeMounts }}
{{- if not (has .name $names) }}
- extraVolumeMounts: no volume is named {{ .name }}
{{- end }}
{{- end }}
{{- end }}

{{- /* One path, one volume. /etc/masters/recipe is where the head of a RayJob finds its recipe. */ -}}
{{- define "masters.validate.mounts" -}}
{{- $taken := dict -}}
{{- range list "/dev/shm" "/tmp" "/home/masters" "/var/run/masters/gcs" "/etc/masters/recipe" }}{{ $_ := set $taken . "a volume of the chart" }}{{ end -}}
{{- $mounts := list (list "modelCache.mountPath" .Values.modelCache.mountPath) -}}
{{- if eq .Values.storage.kind "pvc" }}{{ $mounts = append $mounts (list "storage.pvc.mountPath" .Values.storage.pvc.mountPath) }}{{ end -}}
{{- range .Values.extraVolumeMounts }}{{ $mounts = append $mounts (list (printf "extraVolumeMounts of %s" .name) .mountPath) }}{{ end -}}
{{- range $mounts }}
{{- $path := last . | clean }}
{{- if hasKey $taken $path }}
- {{ get $taken $path }} and {{ first . }} are both {{ $path }}
{{- end }}
{{- $_ := set $taken $path (first .) }}
{{- end }}
{{- end }}
