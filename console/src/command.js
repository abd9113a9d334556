// A command for a shell that signs as the application should have signed.

/** Characters that a terminal may take for more than text when they are pasted. */
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

/** A text as one word of a shell. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * A command of a shell that prints what the application should have answered; `null` if the string is unknown, is not shown whole, or
 * has characters that a terminal would interpret.
 */
export function command({ key, string_to_sign, is_complete }) {
  if (!key || !string_to_sign || !is_complete || CONTROL.test(key + string_to_sign)) return null;
  const signature = `printf '%s' ${quoted(string_to_sign)} | openssl dgst -sha256 -hmac "$APP_SECRET" -r | cut -c 1-64`;
  return `printf '%s:%s\\n' ${quoted(key)} \\\n  "$(${signature})"`;
}
