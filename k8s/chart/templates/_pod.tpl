{{/*
The pod of the head or of a worker group. Call with
  root  the chart's context
  role  head or worker
  of    the values of the head or of the group
  group       its name, as the label ray.io/group has it
  spot, gpus, protected, drain, image
*/}}
{{- define "masters.podTemplate" -}}
{{- $values := .root.Values -}}
{{- $priority := .of.priorityClassName -}}
{{- if and (not $priority) .protected $values.priorityClass.create }}{{ $priority = include "masters.priorityClass" .root }}{{ end -}}
{{- $annotations := .of.annotations | default dict -}}
{{- if .protected }}{{ $annotations = merge (dict) $annotations (include "masters.doNotEvict" . | fromYaml) }}{{ end -}}
metadata:
  labels:
    app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
    app.kubernetes.io/component: {{ .role | quote }}
    {{- with .of.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "masters.serviceAccount" . | quote }}
  automountServiceAccountToken: {{ and (eq .role "head") $values.autoscaling.enabled }}
  terminationGracePeriodSeconds: {{ add .drain 10 }}
  restartPolicy: Never
  enableServiceLinks: false
  securityContext: {{- include "masters.podSecurity" .root | nindent 4 }}
  {{- with $priority }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .of.schedulerName }}
  schedulerName: {{ . | quote }}
  {{- end }}
  {{- if .of.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- if .of.hostIPC }}
  hostIPC: true
  {{- end }}
  {{- with .of.runtimeClassName }}
  runtimeClassName: {{ . | quote }}
  {{- end }}
  {{- with $values.images.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- with include "masters.placement" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "masters.containers" (dict "root" .root "of" .of.initContainers) | trim }}
  initContainers:
    {{- . | nindent 4 }}
  {{- end }}
  containers:
    - name: ray-{{ .role }}
      image: {{ .image | quote }}
      imagePullPolicy: {{ $values.images.pullPolicy | quote }}
      securityContext:
        {{- $security := include "masters.containerSecurity" .root | fromYaml }}
        {{- with .of.capabilities }}{{ $_ := set $security.capabilities "add" . }}{{ end }}
        {{- toYaml $security | nindent 8 }}
      env: {{- include "masters.env" . | trim | nindent 8 }}
      ports:
        {{- if eq .role "head" }}
        - {name: gcs-server, containerPort: 6379, protocol: TCP}
        - {name: dashboard, containerPort: 8265, protocol: TCP}
        - {name: client, containerPort: 10001, protocol: TCP}
        - {name: as-metrics, containerPort: 44217, protocol: TCP}
        - {name: dash-metrics, containerPort: 44227, protocol: TCP}
        {{- end }}
        - {name: metrics, containerPort: 8080, protocol: TCP}
      resources:
        requests:
          cpu: {{ (.of.requests | default dict).cpu | default .of.cpus | quote }}
          memory: {{ (.of.requests | default dict).memory | default (include "masters.gi" .of.memoryGi) }}
          ephemeral-storage: {{ include "masters.disk" . }}
          {{- include "masters.devices" . | nindent 10 }}
        limits:
          cpu: {{ .of.cpus | quote }}
          memory: {{ include "masters.gi" .of.memoryGi }}
          {{- include "masters.devices" . | nindent 10 }}
      volumeMounts:
        - {name: shm, mountPath: /dev/shm}
        - {name: tmp, mountPath: /tmp}
        - {name: home, mountPath: /home/masters}
        - {name: models, mountPath: {{ $values.modelCache.mountPath | quote }}}
        {{- if eq $values.storage.kind "pvc" }}
        - {name: runs, mountPath: {{ $values.storage.pvc.mountPath | quote }}}
        {{- end }}
        {{- if and (eq $values.storage.kind "gcs") $values.storage.gcs.existingSecret }}
        - {name: gcs-key, mountPath: /var/run/masters/gcs, readOnly: true}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with include "masters.containers" (dict "root" .root "of" .of.sidecars) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
  volumes:
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: {{ include "masters.gi" .of.shmGi }}}
    - name: tmp
      emptyDir: {}
    - name: home
      emptyDir: {}
    - name: models
      {{- include "masters.models.volume" .root | nindent 6 }}
    {{- if eq $values.storage.kind "pvc" }}
    - name: runs
      persistentVolumeClaim: {claimName: {{ include "masters.runs.claim" .root | quote }}}
    {{- end }}
    {{- if and (eq $values.storage.kind "gcs") $values.storage.gcs.existingSecret }}
    - name: gcs-key
      secret: {secretName: {{ $values.storage.gcs.existingSecret | quote }}}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* The volume of the models. */}}
{{- define "masters.models.volume" -}}
{{- $kind := include "masters.cache.kind" . -}}
{{- if eq $kind "pvc" -}}
persistentVolumeClaim: {claimName: {{ include "masters.models.claim" . | quote }}}
{{- else if eq $kind "hostPath" -}}
hostPath: {path: {{ .Values.modelCache.hostPath | quote }}, type: Directory}
{{- else -}}
emptyDir: {sizeLimit: {{ include "masters.gi" .Values.modelCache.sizeGi }}}
{{- end -}}
{{- end }}

{{/* GPUs and what else a device plugin advertises: requests and limits are the same. Call with gpus and of. */}}
{{- define "masters.devices" -}}
{{- $devices := deepCopy (.of.resources | default dict) -}}
{{- with .gpus }}{{ $_ := set $devices ($.of.gpuResource | default "nvidia.com/gpu") . }}{{ end -}}
{{- with $devices }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/* Containers of the user's own, under the chart's security context. Call with root and the list as `of`. */}}
{{- define "masters.containers" -}}
{{- range .of }}
{{- $security := include "masters.containerSecurity" $.root | fromYaml }}
{{- with .runAsUser }}{{ $_ := set $security "runAsUser" (int64 .) }}{{ end }}
{{- $one := merge (dict "securityContext" $security) (dict "imagePullPolicy" $.root.Values.images.pullPolicy) (omit . "runAsUser") }}
{{- if not $one.resources.requests }}{{ $_ := set $one "resources" (merge (dict "requests" $one.resources.limits) $one.resources) }}{{ end }}
- {{ toYaml $one | nindent 2 | trim }}
{{- end }}
{{- end }}

{{/* Environment: what the chart sets, then `env`, then the group's own; secrets by reference only. */}}
{{- define "masters.env" -}}
{{- $values := .root.Values -}}
{{- $plain := dict
      "HOME" "/home/masters"
      "HF_HOME" $values.modelCache.mountPath
      "RAY_USAGE_STATS_ENABLED" "0"
      "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S" (toString .drain) -}}
{{- /* Ray gives the driver of a stopped job 3 s, in which no stage ends and no log is kept. */ -}}
{{- if eq (.role | default "") "head" }}{{ $_ := set $plain "RAY_JOB_STOP_WAIT_TIME_S" "15" }}{{ end -}}
{{- $secret := dict -}}
{{- $plain = merge $plain (include "masters.proxy" .root | fromYaml) -}}
{{- if eq $values.storage.kind "s3" }}
  {{- with $values.storage.s3.region }}{{ $_ := set $plain "AWS_REGION" . }}{{ $_ := set $plain "AWS_DEFAULT_REGION" . }}{{ end }}
  {{- with $values.storage.s3.endpoint }}{{ $_ := set $plain "AWS_ENDPOINT_URL" . }}{{ end }}
  {{- with $values.storage.s3.existingSecret }}
    {{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
      {{- $_ := set $secret . (dict "secret" $values.storage.s3.existingSecret "key" .) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if and (eq $values.storage.kind "gcs") $values.storage.gcs.existingSecret }}
  {{- $_ := set $plain "GOOGLE_APPLICATION_CREDENTIALS" "/var/run/masters/gcs/credentials.json" }}
{{- end }}
{{- with $values.huggingFace.existingSecret }}
  {{- $_ := set $secret "HF_TOKEN" (dict "secret" . "key" $values.huggingFace.key) }}
{{- end }}
{{- range $name, $value := merge (dict) (.of.env | default dict) $values.env $plain }}
- {name: {{ $name | quote }}, value: {{ $value | quote }}}
{{- end }}
{{- range $name, $from := merge (dict) $values.secretEnv $secret }}
- name: {{ $name | quote }}
  valueFrom: {secretKeyRef: {name: {{ $from.secret | quote }}, key: {{ $from.key | quote }}}}
{{- end }}
{{- end }}

{{/* HTTPS_PROXY and its kin, in both spellings. What is inside never goes through it. */}}
{{- define "masters.proxy" -}}
{{- $given := .Values.proxy -}}
{{- if or $given.https $given.http }}
{{- $inside := list "localhost" "127.0.0.1" ".svc" ".cluster.local" "169.254.169.254" "169.254.170.23" "metadata.google.internal" -}}
{{- $all := dict "HTTPS_PROXY" $given.https "HTTP_PROXY" $given.http "NO_PROXY" (concat $inside $given.noProxy | join ",") -}}
{{- range $name, $value := $all }}
{{- with $value }}
{{ $name }}: {{ . | quote }}
{{ lower $name }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
