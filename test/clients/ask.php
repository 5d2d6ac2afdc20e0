<?php

// ask.php FILE: as ask.py, for the module in PHP.

require $argv[1];

/** What the document warns of. */
function unbound(#[SensitiveParameter] string $secret): ?array
{
    $database = database();
    $database->setAttribute(PDO::ATTR_EMULATE_PREPARES, true);
    $ask = $database->prepare('SELECT key_id FROM overten_verify_key(?)');
    $ask->execute([$secret]);
    $database->setAttribute(PDO::ATTR_EMULATE_PREPARES, false);
    return $ask->fetch() ?: null;
}

while (($line = fgets(STDIN)) !== false) {
    $values = array_map('rawurldecode', explode(' ', rtrim($line, "\n")));
    $what = array_shift($values);
    try {
        $row = $what(...$values);
        echo $row === null ? "none\n" : 'row ' . implode(' ', $row) . "\n";
    } catch (InvalidArgumentException $error) {
        echo 'invalid ' . strtok($error->getMessage(), "\n") . "\n";
    } catch (PDOException $error) {
        fwrite(STDERR, "$error\n");
        echo 'error ' . $error->getCode() . "\n";
    }
}
