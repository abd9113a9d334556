{{- define "campanile.name" -}}
{{- if contains "campanile" .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-campanile" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "campanile.selector" -}}
app.kubernetes.io/name: campanile
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "campanile.labels" -}}
{{ include "campanile.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "campanile.secret" -}}
{{- .Values.existingSecret | default (include "campanile.name" .) -}}
{{- end -}}

{{/* Stops where the server would start but not do what is meant. */}}
{{- define "campanile.check" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is required: where you have pushed the image" -}}
{{- end -}}
{{- if and .Values.existingSecret .Values.secrets -}}
{{- fail "existingSecret and secrets exclude each other" -}}
{{- end -}}
{{- if not (or .Values.existingSecret .Values.secrets) -}}
{{- fail "secrets or existingSecret is required: at least the key and the secret of the app" -}}
{{- end -}}
{{- $isSeveral := or .Values.autoscaling.enabled (lt 1 (int .Values.replicaCount)) -}}
{{- $hasRedis := or .Values.existingSecret (hasKey .Values.secrets "CAMPANILE_REDIS__URL") (regexMatch "(?m)^\\[redis\\]" .Values.config) -}}
{{- if and $isSeveral (not $hasRedis) -}}
{{- fail "several nodes need Redis: set CAMPANILE_REDIS__URL in secrets, or replicaCount to 1" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (not .Values.autoscaling.connections) (not .Values.autoscaling.cpu) -}}
{{- fail "autoscaling needs connections or cpu" -}}
{{- end -}}
{{- end -}}
