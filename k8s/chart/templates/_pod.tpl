{{/*
The pod of the head or of a worker group. Call with
  root  the chart's context
  role  head or worker
  of    the values of the head or of the group
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
  containers:
    - name: ray-{{ .role }}
      image: {{ .image | quote }}
      imagePullPolicy: {{ $values.images.pullPolicy | quote }}
      securityContext: {{- include "masters.containerSecurity" .root | nindent 8 }}
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
          {{- with .gpus }}
          nvidia.com/gpu: {{ . }}
          {{- end }}
        limits:
          cpu: {{ .of.cpus | quote }}
          memory: {{ include "masters.gi" .of.memoryGi }}
          {{- with .gpus }}
          nvidia.com/gpu: {{ . }}
          {{- end }}
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
  volumes:
    - name: shm
      emptyDir: {medium: Memory, sizeLimit: {{ include "masters.gi" .of.shmGi }}}
    - name: tmp
      emptyDir: {}
    - name: home
      emptyDir: {}
    - name: models
      {{- if eq $values.modelCache.kind "pvc" }}
      persistentVolumeClaim: {claimName: {{ include "masters.models.claim" .root | quote }}}
      {{- else }}
      emptyDir: {sizeLimit: {{ include "masters.gi" $values.modelCache.sizeGi }}}
      {{- end }}
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

{{/* Environment: what the chart sets, then `env`, then the group's own; secrets by reference only. */}}
{{- define "masters.env" -}}
{{- $values := .root.Values -}}
{{- $plain := dict
      "HOME" "/home/masters"
      "HF_HOME" $values.modelCache.mountPath
      "RAY_USAGE_STATS_ENABLED" "0"
      "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S" (toString .drain) -}}
{{- $secret := dict -}}
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
