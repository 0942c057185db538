{{/*
Secrets among the values: everybody who reads the release, a pod or a ConfigMap would see them. Names are looked at where they
are names of variables or fields, values everywhere. What is found is never printed.
*/}}
{{- define "masters.validate.secrets" -}}
{{- range $key, $value := omit .Values "secretEnv" }}
{{- include "masters.validate.walk" (dict "path" $key "value" $value "named" (has $key (list "extraObjects"))) }}
{{- end }}
{{- range $i, $one := .Values.extraObjects }}
{{- $kind := ternary (regexFind "(?m)^[\"']?kind[\"']?:\\s*[\"']?Secret[\"']?\\s*$" (toString $one)) "" (kindIs "string" $one) }}
{{- if or $kind (and (kindIs "map" $one) (eq (toString $one.kind) "Secret")) }}
- extraObjects[{{ $i }}] is a Secret, which would lie in the values and in Helm's record: make it with kubectl, or by an operator that fetches it
{{- end }}
{{- end }}
{{- end }}

{{/* Call with path, value, and named: whether keys below are names that may give a secret away. */}}
{{- define "masters.validate.walk" -}}
{{- $path := .path -}}
{{- $named := .named -}}
{{- if kindIs "map" .value }}
{{- /* An entry of a list of variables. */ -}}
{{- if and (kindIs "string" .value.name) (kindIs "string" .value.value) (include "masters.secret.name" .value.name) (not (include "masters.secret.harmless" .value.value)) }}
- {{ $path }}.value of {{ .value.name }} looks like a secret by its name; a literal is shown to everybody who reads the pod: use valueFrom.secretKeyRef
{{- else }}
{{- range $key, $value := .value }}
{{- $below := printf "%s.%s" $path $key }}
{{- if ne $key "existingSecret" }}
{{- $map := or $named (eq $key "annotations") }}
{{- if and $named (kindIs "string" $value) (include "masters.secret.field" $key) (not (include "masters.secret.harmless" $value)) }}
- {{ $below }} looks like a secret by its name; it would be shown to everybody who reads the object: name a Secret instead
{{- else }}
{{- include "masters.validate.walk" (dict "path" $below "value" $value "named" (and $map (not (regexMatch "Ref$" $key)))) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- else if kindIs "slice" .value }}
{{- $before := "" }}
{{- range $i, $value := .value }}
{{- if and (kindIs "string" $value) (regexMatch "(?i)^--?([-a-z0-9]*-)?(token|password|passwd|secret|api-?key)$" $before) (not (include "masters.secret.harmless" $value)) }}
- {{ $path }}[{{ $i }}] is what {{ $before }} takes; arguments are shown to everybody who reads the pod: hand it over by a variable from a Secret
{{- else }}
{{- include "masters.validate.walk" (dict "path" (printf "%s[%d]" $path $i) "value" $value "named" $named) }}
{{- end }}
{{- $before = toString $value }}
{{- end }}
{{- else if kindIs "string" .value }}
{{- with include "masters.secret.value" .value }}
- {{ $path }} holds {{ . }}; it would be shown to everybody who reads the release or the pod: make a Secret, and name it (secretEnv, existingSecret)
{{- end }}
{{- end }}
{{- end }}

{{/* Whether a variable's name says that its value is a secret. */}}
{{- define "masters.secret.name" -}}
{{- $words := "TOKEN|PASSWORD|PASSWD|PWD|PASS|PASSPHRASE|SECRET|CREDENTIALS?|API_?KEY|ACCESS_KEY|ACCESS_KEY_ID|PAT|COOKIE|DSN|CONNECTION_?STRING|CONN_?STR|SAS" -}}
{{- if and (regexMatch (printf "(?i)(^|_)(%s)($|_)|(^|_)KEY$" $words) .) (not (regexMatch "(?i)_(FILE|PATH|DIR|NAME)$" .)) }}yes{{ end -}}
{{- end }}

{{/* The same of a field of an object: `key`, `secretName` and their kin are names of places. */}}
{{- define "masters.secret.field" -}}
{{- if regexMatch "(?i)(^|[-_./])(token|password|passwd|pwd|passphrase|secret|credentials?|api_?key|apikey|access_?key|private_?key|connection_?string)$" . }}yes{{ end -}}
{{- end }}

{{/* A path, a switch, a reference or nothing is no secret. */}}
{{- define "masters.secret.harmless" -}}
{{- if regexMatch "^(file://)?/[^:@]*$|^(true|false|yes|no|on|off|[01])?$|^\\$[({]" . }}yes{{ end -}}
{{- end }}

{{/* What a value looks like, in words; empty where it looks like nothing of the kind. */}}
{{- define "masters.secret.value" -}}
{{- $start := "(^|[^A-Za-z0-9])" -}}
{{- if regexMatch (printf "%s(hf_[A-Za-z0-9]{8,}|api_org_[A-Za-z0-9]{8,})" $start) . }}what looks like a token of the hub (hf_...)
{{- else if regexMatch (printf "%s(sk-[-A-Za-z0-9_]{20,}|nvapi-[-A-Za-z0-9_]{8,}|AIza[-A-Za-z0-9_]{20,}|gsk_[A-Za-z0-9]{16,})" $start) . }}what looks like the key of a model's API
{{- else if regexMatch (printf "%s(gh[pousr]_[A-Za-z0-9]{8,}|github_pat_[A-Za-z0-9_]{8,}|glpat-[-A-Za-z0-9_]{8,}|xox[abprs]-[-A-Za-z0-9]{8,})" $start) . }}what looks like the token of a code host or a chat
{{- else if regexMatch (printf "%s(AKIA|ASIA)[A-Z0-9]{12,}" $start) . }}what looks like an access key of AWS
{{- else if regexMatch "-----BEGIN [A-Z ]*PRIVATE KEY" . }}a private key
{{- else if regexMatch "(^|[^A-Za-z0-9_-])eyJ[-A-Za-z0-9_]{8,}\\.eyJ[-A-Za-z0-9_]{8,}\\." . }}what looks like a JSON web token
{{- else if regexMatch "[a-z][-+.a-z0-9]*://[^/@\\s:?#]*:[^/@\\s${(]+@" . }}an address with a password
{{- else if regexMatch "(?i)(AccountKey|SharedAccessKey|SharedAccessSignature)=|[?&](sig|token|access_token|X-Amz-Signature)=[^&\\s]" . }}an address or a connection string with a key
{{- else if regexMatch "(?i)(^|\\s)--?([-a-z0-9]*-)?(token|password|passwd|secret|api-?key)[= ]+[^-\\s$/]" . }}an argument with a secret
{{- end -}}
{{- end }}
