<?php

use App\Http\Controllers\MessageController;
use Illuminate\Support\Facades\Route;

// The pages of the application.

Route::middleware('auth')->group(function (): void {
    Route::post('/conversations/{conversation}/messages', [MessageController::class, 'store']);
});
