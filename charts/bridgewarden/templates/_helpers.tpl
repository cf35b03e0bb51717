{{/* The objects' name. A release that is called as the chart is does not say it twice. */}}
{{- define "bridgewarden.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that every object of this release has, and no other. */}}
{{- define "bridgewarden.releaseLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels by which the agents' pods are found. */}}
{{- define "bridgewarden.selectorLabels" -}}
{{ include "bridgewarden.releaseLabels" . }}
app.kubernetes.io/component: agent
{{- end -}}

{{/* Labels of objects that are not selected by any. */}}
{{- define "bridgewarden.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "bridgewarden.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Annotations of an object: those of all objects, and its own (a list of both: the root and its own). */}}
{{- define "bridgewarden.annotations" -}}
{{- with merge (dict) (index . 1) (index . 0).Values.commonAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "bridgewarden.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "bridgewarden.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "bridgewarden.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- $version := ternary (printf "@%s" .Values.image.digest) (printf ":%s" $tag) (ne .Values.image.digest "") -}}
{{- with .Values.global.imageRegistry | default .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- printf "%s%s" .Values.image.repository $version -}}
{{- end -}}

{{/* The secrets with which images are pulled, each once. */}}
{{- define "bridgewarden.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat .Values.global.imagePullSecrets .Values.imagePullSecrets -}}
{{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with uniq $secrets -}}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An address and a port, as flags are given them (a list of both). */}}
{{- define "bridgewarden.listenAddress" -}}
{{- $host := index . 0 -}}
{{- if eq $host "hostIP" -}}
{{- $host = "$(HOST_IP)" -}}
{{- else if contains ":" $host -}}
{{- $host = printf "[%s]" $host -}}
{{- end -}}
{{- printf "%s:%v" $host (index . 1) -}}
{{- end -}}

{{/* The directory of the metrics' certificate in the container. */}}
{{- define "bridgewarden.metricsTLSDirectory" -}}
/etc/bridgewarden/metrics-tls
{{- end -}}

{{/* What a probe asks. Without a host, kubelet asks the pod's address, which is the node's. */}}
{{- define "bridgewarden.probe" -}}
httpGet:
  {{- if ne .root.Values.metrics.address "hostIP" }}
  host: {{ ternary "::1" "127.0.0.1" (contains ":" .root.Values.metrics.address) | quote }}
  {{- end }}
  port: http
  path: {{ .path }}
{{- end -}}

{{/* The right to change the packet filter, and no other. iptables' set match and its legacy variant open raw sockets. */}}
{{- define "bridgewarden.netfilterRights" -}}
{{- toYaml (mergeOverwrite (include "bridgewarden.netfilterRightsByDefault" . | fromYaml) .Values.securityContext) -}}
{{- end -}}

{{- define "bridgewarden.netfilterRightsByDefault" -}}
runAsUser: 0
runAsGroup: 0
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add: [NET_ADMIN, NET_RAW]
{{- end -}}

{{/* No right at all. */}}
{{- define "bridgewarden.noRights" -}}
runAsUser: 65534
runAsGroup: 65534
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The directories of the agent's sockets, as a list in JSON. */}}
{{- define "bridgewarden.socketDirectories" -}}
{{- $directories := list }}
{{- $ui := ternary (trimPrefix "unix:" .Values.ui.addr) "" (hasPrefix "unix:" .Values.ui.addr) }}
{{- range compact (list .Values.flowsSocket .Values.statusSocket $ui) }}
{{- $directories = append $directories (dir .) }}
{{- end }}
{{- $directories | uniq | toJson }}
{{- end }}

{{/* Subjects of a binding (a list of the root and the subjects). */}}
{{- define "bridgewarden.subjects" -}}
{{- $root := index . 0 -}}
{{- range $number, $subject := index . 1 -}}
{{- if $number }}{{ "\n" }}{{ end -}}
- kind: {{ $subject.kind }}
  name: {{ $subject.name | quote }}
  {{- if eq $subject.kind "ServiceAccount" }}
  namespace: {{ $subject.namespace | default $root.Release.Namespace }}
  {{- else }}
  apiGroup: {{ $subject.apiGroup | default "rbac.authorization.k8s.io" }}
  {{- end }}
{{- end -}}
{{- end -}}
