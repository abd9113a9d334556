<main>
    {{-- These two are changed by resources/js/room.js only. --}}
    <p role="status" wire:ignore></p>
    <p id="typing" wire:ignore></p>

    <ul aria-label="Members">
        @foreach ($members as $member)
            <li wire:key="member-{{ $member['id'] }}">{{ $member['name'] }}</li>
        @endforeach
    </ul>
    <ul aria-label="News">
        @foreach ($news as $headline)
            <li>{{ $headline }}</li>
        @endforeach
    </ul>
    <ul aria-label="Messages">
        @foreach ($messages as $message)
            <li>{{ $message['from'] }}: {{ $message['text'] }}</li>
        @endforeach
    </ul>
    <form wire:submit="send">
        <input aria-label="Message" wire:model="text">
    </form>
</main>

@script
<script>
    enterRoom($wire.roomId, $wire.$el);
</script>
@endscript
