<?php

namespace Campanile\Laravel\Install;

/**
 * The text of a .env file. Changes touch only the lines that they are about.
 */
final class EnvFile
{
    public function __construct(private string $text) {}

    public function text(): string
    {
        return $this->text;
    }

    /** The value as it is written, without quotes; null if no line sets the variable. */
    public function get(string $name): ?string
    {
        if (! preg_match($this->line($name), $this->text, $found)) {
            return null;
        }

        return trim(trim($found['value']), '"\'');
    }

    /** Sets a variable that no line sets, or a line sets to nothing. Returns whether it was. */
    public function add(string $name, string $value): bool
    {
        $present = $this->get($name);
        if ($present === null) {
            $this->append("{$name}={$value}");
        } elseif ($present === '') {
            $this->replace($name, $value);
        }

        return (string) $present === '';
    }

    /** Changes the value of every line that sets the variable. */
    public function replace(string $name, string $value): void
    {
        $this->text = (string) preg_replace_callback($this->line($name), fn (array $found) => $found['name'].$value, $this->text);
    }

    private function append(string $line): void
    {
        $end = str_contains($this->text, "\r\n") ? "\r\n" : "\n";
        $separator = $this->text === '' || str_ends_with($this->text, "\n") ? '' : $end;
        $this->text .= $separator.$line.$end;
    }

    private function line(string $name): string
    {
        return '/^(?<name>[ \t]*(?:export[ \t]+)?'.preg_quote($name, '/').'[ \t]*=[ \t]*)(?<value>[^\r\n]*)/m';
    }
}
