# ask.rb FILE: as ask.mjs, for the module in Ruby.

require 'uri'
require ARGV.shift

$stdout.sync = true

def sqlstate_of(error)
  error.respond_to?(:result) && error.result&.error_field(PG::Result::PG_DIAG_SQLSTATE)
end

while (line = $stdin.gets)
  what, *values = line.chomp.split(/ /, -1).map { |word| URI.decode_www_form_component(word) }
  begin
    row = Keys.public_send(what, *values)
    puts row.nil? ? 'none' : "row #{row.values.join(' ')}"
  rescue ArgumentError => e
    warn e.full_message(highlight: false)
    puts "invalid #{e.message}"
  rescue PG::Error => e
    warn e.full_message(highlight: false)
    puts "error #{sqlstate_of(e)}"
  end
end
