<?php

namespace App\Livewire;

use App\Events\Headline;
use App\Events\MessageSent;
use Illuminate\Contracts\View\View;
use Illuminate\Support\Facades\Auth;
use Livewire\Attributes\Locked;
use Livewire\Attributes\On;
use Livewire\Attributes\Validate;
use Livewire\Component;

/**
 * A room. Livewire subscribes to the channels of the `echo…` listeners with the page's `window.Echo`, and calls the methods on
 * the server with the data of the events.
 */
class Room extends Component
{
    #[Locked]
    public int $roomId;

    /** @var list<array{id: int, name: string}> who is here, as `routes/channels.php` describes them */
    public array $members = [];

    /** @var list<array{from: string, text: string}> */
    public array $messages = [];

    /** @var list<string> */
    public array $news = [];

    #[Validate('required|string|max:1000')]
    public string $text = '';

    public function mount(int $roomId): void
    {
        $this->roomId = $roomId;
    }

    // A dot before the name: the event has a `broadcastAs`.
    #[On('echo:news,.headline')]
    public function headline(array $event): void
    {
        $this->news[] = $event['text'];
    }

    #[On('echo-private:room.{roomId},.message.sent')]
    public function received(array $event): void
    {
        $this->messages[] = ['from' => $event['from'], 'text' => $event['text']];
    }

    #[On('echo-presence:room.{roomId},here')]
    public function here(array $members): void
    {
        $this->members = $members;
    }

    #[On('echo-presence:room.{roomId},joining')]
    public function joining(array $member): void
    {
        $this->leaving($member);
        $this->members[] = $member;
    }

    #[On('echo-presence:room.{roomId},leaving')]
    public function leaving(array $member): void
    {
        $others = array_filter($this->members, fn (array $other): bool => $other['id'] !== $member['id']);
        $this->members = array_values($others);
    }

    public function send(): void
    {
        $this->validate();
        $name = Auth::user()->name;
        // Livewire sends the header X-Socket-ID, so the sender's page does not receive its own message.
        broadcast(new MessageSent($this->roomId, $name, $this->text))->toOthers();
        broadcast(new Headline("$name wrote a message"));
        $this->messages[] = ['from' => $name, 'text' => $this->text];
        $this->text = '';
    }

    public function render(): View
    {
        return view('livewire.room');
    }
}
